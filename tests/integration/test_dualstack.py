"""IPv6 in flannel's udp backend: our own addition, for those who announce it."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from flannelette.control.lease import LeaseAttrs
from tests.helpers.lab import lab
from tests.helpers.leases import write_leases
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.overlays import check_some

pytestmark = needs_namespaces


@pytest.mark.parametrize("datapath", ["native", "python"])
def test_both_versions_both_ways(tmp_path: Path, datapath: str) -> None:
    with lab(tmp_path, ipv6=True, datapath=datapath) as it:
        it.up()
        check_some(it, 1, 2)
        for number in (1, 2):
            assert it.drops(number, "rx") == {}
            peers = [route["peer"] for route in it.status(number)["routes"]]
            assert peers == [f"192.0.2.{3 - number}:8285"] * 2, "IPv6 over IPv4"


def test_who_does_not_announce_it_gets_none(tmp_path: Path) -> None:
    """flanneld would take an IPv6 packet for an IPv4 one (U14)."""
    with lab(tmp_path, ipv6=True) as it:
        it.up()
        flanneld = LeaseAttrs(IPv4Address("192.0.2.77"))
        [subnet] = write_leases(tmp_path / "store.sqlite", flanneld)
        until(lambda: len(it.status(1)["routes"]) == 3)
        routes = {r["subnet"]: r["peer"] for r in it.status(1)["routes"]}
        assert routes[subnet] == "192.0.2.77:8285"
        assert list(routes.values()).count("192.0.2.77:8285") == 1
