"""Something is wrong with a peer, or on the way to it: the doctor names it, and its
command cures it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.doctors import Doctor
from tests.helpers.lab import lab
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces


def test_a_daemon_is_stopped(tmp_path: Path) -> None:
    with lab(tmp_path) as it:
        it.up()
        it.rig.stop(it.cluster.daemons.pop(2).process)
        finding = Doctor(it).only("peer-refuses")
        store = f"--store=local:{tmp_path / 'store.sqlite'}"
        assert finding["cure"] == {
            "command": f"flannelette run {store}",
            "on": "192.0.2.2",
        }
        there = Doctor(it, 2)
        down = there.only("daemon-down", store)
        assert down["cure"]["command"].startswith("flannelette run --operator-socket=")
        assert down["cure"]["command"].endswith(store)
        # It knows its peers from the store, and asks them.
        assert [p["address"] for p in there.examine(store)["peers"]] == ["192.0.2.1"]
        it.cluster.start_daemon(2)
        until(lambda: Doctor(it).findings() == [])


@pytest.mark.parametrize("backend", ["udp", "vxlan"])
def test_the_path_is_narrow(tmp_path: Path, backend: str) -> None:
    """A switch in between drops what its port cannot take."""
    with lab(tmp_path, hosts=3, store="static", backend={"Type": backend}) as it:
        it.up()
        (wire,) = [name for name in it.rig.namespaces if name.endswith("-wire")]
        it.rig.ip(wire, "link set h2 mtu 1372")
        finding = Doctor(it).only("path-mtu")
        # A bridge has 4 bytes to spare, as for a VLAN's tag.
        said = "the way to 192.0.2.2 takes (137[2-6]) bytes, not 1500"
        found = re.fullmatch(said, finding["what"])
        assert found, finding
        assert f"set eth0 mtu {found[1]} &&" in finding["cure"]["command"]
        it.rig.ip(wire, "link set h2 mtu 1500")
        assert Doctor(it).findings() == []


def test_a_host_is_gone(tmp_path: Path) -> None:
    with lab(tmp_path, store="static") as it:
        it.up()
        it.rig.ip(it.rig.host(2), "link set eth0 down", "link set eth0 up")
        it.rig.ip(it.rig.host(2), "address flush dev eth0")
        assert Doctor(it).only("peer-gone")["what"].startswith("192.0.2.2 ")


def test_the_other_side_does_not_know_us(tmp_path: Path) -> None:
    """Its file of nodes lacks us."""
    with lab(tmp_path, store="static") as it:
        it.start_store()
        it.cluster.start_daemon(1)
        text = (tmp_path / "peers.toml").read_text()
        other = tmp_path / "other.toml"
        head, first, second = text.split("[[node]]")
        other.write_text(f"{head}[[node]]{second}")
        it.cluster.start_daemon(2, f"--store=static:{other}")
        for number in (1, 2):
            until(lambda n=number: it.is_ready(n))  # type: ignore[misc]
        until(lambda: it.status(1)["routes"])
        finding = Doctor(it).only("unknown-there")
        assert finding["cure"]["on"] == "192.0.2.2"
        other.write_text(f"{head}[[node]]{first}[[node]]{second}")
        until(lambda: it.status(2)["routes"])
        until(lambda: Doctor(it).findings() == [])


def test_the_address_was_changed(tmp_path: Path) -> None:
    """A daemon goes on with the one that it has bound to."""
    with lab(tmp_path, store="static") as it:
        it.up()
        host = it.rig.host(1)
        it.rig.ip(host, "address add 192.0.2.50/24 dev eth0")
        assert Doctor(it).findings() == []
        # The second of a network goes with the first.
        it.rig.ip(host, "address del 192.0.2.1/24 dev eth0")
        it.rig.ip(host, "address add 192.0.2.50/24 dev eth0")
        finding = Doctor(it).findings()[0]
        assert finding["check"] == "external-changed"
        assert finding["what"].endswith("has 192.0.2.50 now")
