"""Nodes of ours that carry IPv6 over udp, beside a flanneld that cannot (U14)."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.helpers.gateway import Gateway
from tests.helpers.lab import DEADLINE, Lab, lab
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.overlays import check_all, check_some
from tests.helpers.taps import tap_on
from tests.interop.flanneld import needs_flanneld, start_flanneld, start_ours

pytestmark = [needs_namespaces, needs_flanneld]

UDP_PORT = 8285


def unrouted(it: Lab, number: int) -> int:
    """Packets that a host's daemon had no route for."""
    return it.drops(number, "tx").get("no_route", 0)


def test_flanneld_never_receives_ipv6(tmp_path: Path) -> None:
    """L4: only nodes that announce it do. IPv4 works with all."""
    with lab(tmp_path, 3, store="etcd", ipv6=True) as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        start_ours(it, 1)
        flanneld = start_flanneld(it, 2)
        start_ours(it, 3)
        for number in (1, 3):
            it.add_pod(number)
        it.pods[2] = flanneld.pod()
        it.until_reaches(1, 2)
        with tap_on(it, 2) as tap:
            check_all(it, 1, 3, ttl=60)
            check_some(it, 1, 2, versions=[4])
            check_some(it, 3, 2, versions=[4])
            for number in (1, 3):
                before = unrouted(it, number)
                assert not it.reaches(number, 2, version=6)
                until(lambda n=number, b=before: unrouted(it, n) > b)  # type: ignore[misc]
            assert not it.reaches(2, 1, version=6)
            received = list(tap.datagrams(UDP_PORT))
        target = it.rig.address(2).packed
        payloads = [
            payload
            for datagram in received
            if datagram.frame[30:34] == target
            for payload in datagram.cut()
        ]
        assert len(payloads) > 1000
        assert {payload[0] >> 4 for payload in payloads} == {4}

        announced = {
            value["PublicIP"]: value.get("RawIPv6")
            for text, _ in Gateway(it.rig).leases().values()
            for value in [json.loads(text)]
        }
        assert announced == {
            "192.0.2.1": True,
            "192.0.2.2": None,
            "192.0.2.3": True,
        }
