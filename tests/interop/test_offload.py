"""Offloads stay inside a host: flanneld and nodes without them see single packets."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from flannelette.encap import ip
from tests.helpers.datagrams import check_segmented_udp, check_udp, pod_sockets
from tests.helpers.lab import DEADLINE, MTU, Lab, lab
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.taps import tap_on
from tests.helpers.tcp import check_stream, send_file
from tests.interop.flanneld import beside_flanneld, needs_flanneld, start_ours

pytestmark = needs_namespaces

LARGEST = MTU - 28
"""Bytes of UDP payload that fill a packet of the overlay."""
EACH_WAY = [(1, 2), (2, 1)]
SEGMENTED = [100, 1000, LARGEST]
UDP_PORT = 8285


def offloads(it: Lab, number: int) -> set[str]:
    return set(it.status(number)["node"]["offloads"])


def check_none_dropped(it: Lab, number: int) -> None:
    assert it.drops(number, "tx") == it.drops(number, "rx") == {}


def check_tcp(it: Lab, source: int, target: int, size: int) -> None:
    data = random.Random(size).randbytes(size)
    got = send_file(it, source, target, data)
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def send_mixed_sizes(it: Lab, source: int, target: int) -> None:
    """Without a pause, so that neighbours in a batch differ; more than flanneld may
    keep up with, so only what leaves the source is waited for."""

    def sent() -> int:
        packets: int = it.status(source)["counters"]["tx"]["packets"]
        return packets

    sizes = random.Random(1).sample(range(LARGEST), 400)
    before = sent()
    with pod_sockets(it, source, target) as (sender, _):
        for size in sizes:
            sender.send(bytes(size))
        until(lambda: sent() >= before + len(sizes))


# ---- with flanneld -------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[Lab]:
    """Ours as it is by default on host 1, flanneld on host 2, common NICs between."""
    with beside_flanneld(tmp_path) as (it, _):
        it.rig.set_wire("nic")
        yield it


@needs_flanneld
def test_ping_and_a_gigabyte_each_way_with_flanneld(mixed: Lab) -> None:
    for source, target in EACH_WAY:
        assert "ttl=60" in mixed.reach(source, target, count=20)
        check_stream(mixed, source, target, random.Random(1).randbytes(10**8), 10)
    assert offloads(mixed, 1) >= {"vnet", "merge_tcp", "gso", "gro"}
    check_none_dropped(mixed, 1)


@needs_flanneld
def test_udp_of_every_size_with_flanneld(mixed: Lab) -> None:
    """All that one packet can hold, and some that cross as fragments."""
    for source, target in EACH_WAY:
        check_udp(mixed, source, target, *range(1, LARGEST + 2), 5000, 65507)
        check_segmented_udp(mixed, source, target, *SEGMENTED)
    check_none_dropped(mixed, 1)


@needs_flanneld
@pytest.mark.parametrize("wire", ["nic", "plain"])
def test_each_datagram_to_flanneld_is_one_packet(
    mixed: Lab, wire: Literal["nic", "plain"]
) -> None:
    """A NIC that cuts UDP itself is told to cut a burst between packets; on any other
    wire there are no bursts."""
    mixed.rig.set_wire(wire)
    with tap_on(mixed, 2) as tap:
        mixed.reach(1, 2, count=5)
        check_udp(mixed, 1, 2, 1, LARGEST, 5000)
        check_segmented_udp(mixed, 1, 2, *SEGMENTED)
        check_tcp(mixed, 1, 2, 5_000_000)
        send_mixed_sizes(mixed, 1, 2)
        sent = tap.datagrams(UDP_PORT)
        bursts = [burst for burst in sent if burst.source == mixed.rig.address(1)]
    datagrams = [datagram for burst in bursts for datagram in burst.cut()]
    for datagram in datagrams:
        assert len(datagram) <= MTU
        assert ip.parse(datagram).total == len(datagram)
    assert len(datagrams) > 5_000_000 // MTU
    assert any(burst.segment for burst in bursts) is (wire == "nic")


# ---- with our own --------------------------------------------------------------------


@pytest.mark.parametrize("second", ["auto", "none", "tso", "uso,gro"])
@pytest.mark.parametrize("first", ["auto", "none"])
def test_nodes_with_and_without_offloads(
    tmp_path: Path, first: str, second: str
) -> None:
    with lab(tmp_path) as it:
        it.rig.set_wire("nic")
        it.cluster.start_store(time.monotonic() + DEADLINE)
        start_ours(it, 1, f"--offload={first}")
        start_ours(it, 2, f"--offload={second}")
        it.cluster.wait_connected(time.monotonic() + DEADLINE)
        it.add_pods()
        for source, target in EACH_WAY:
            assert "ttl=60" in it.reach(source, target, count=5)
            check_udp(it, source, target, 1, LARGEST, LARGEST + 1, 5000)
            check_segmented_udp(it, source, target, *SEGMENTED)
            check_tcp(it, source, target, 10_000_000)
        for number, wanted in ((1, first), (2, second)):
            assert bool(offloads(it, number)) is (wanted != "none")
            check_none_dropped(it, number)
