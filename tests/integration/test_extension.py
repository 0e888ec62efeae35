"""Backends whose packets others carry: extension, by commands, and alloc."""

from __future__ import annotations

import json
from pathlib import Path

from flannelette.benchmarks.cluster import FLANNELETTE
from flannelette.benchmarks.netns import tool
from tests.helpers.doctors import Doctor
from tests.helpers.lab import Lab, lab
from tests.helpers.leases import delete_leases
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces

IP = tool("ip")
HOST_GW = {
    "Type": "extension",
    "PreStartupCommand": "cat /sys/class/net/eth0/address",
    "SubnetAddCommand": f"{IP} route add $SUBNET via $PUBLIC_IP",
    "SubnetRemoveCommand": f"{IP} route del ${{SUBNET}} via $PUBLIC_IP",
}


def routes(it: Lab, number: int) -> str:
    return it.rig.run(it.rig.host(number), [IP, "route", "show"]).stdout


def shown(it: Lab, number: int) -> str:
    """What `flannelette status` prints."""
    socket = f"--operator-socket={it.directory}/h{number}/flannelette.sock"
    command = [*FLANNELETTE, "status", socket]
    return it.rig.run(it.rig.host(number), command).stdout


def test_host_gw_by_commands(tmp_path: Path) -> None:
    """7.5; and what commands did stays when we end (C8)."""
    with lab(tmp_path, backend=HOST_GW) as it:
        it.up()
        it.until_reaches(1, 2)
        it.reach(2, 1, count=3)
        status = it.status(1)
        other = it.status(2)["lease"]["subnet"]
        assert status["node"]["datapath"] == "others"
        assert status["node"]["device"] is None
        assert status["counters"] is None
        assert status["routes"] == [
            {"subnet": other, "peer": "192.0.2.2", "direct": False}
        ]
        assert "extension, which others carry" in shown(it, 1)
        assert f"{other} via 192.0.2.2 " in routes(it, 1)
        told = Doctor(it).text()
        assert "Nothing is wrong" in told
        assert "192.0.2.2, its host answers" in told

        daemon = it.cluster.daemons[2].process
        daemon.terminate()
        assert daemon.wait(20) == 0
        it.reach(1, 2)
        delete_leases(tmp_path / "store.sqlite", other)
        until(lambda: other not in routes(it, 1))


def test_a_command_that_fails_ends_the_start(tmp_path: Path) -> None:
    """7.5: in one line; the first, before there is a lease."""
    backend = HOST_GW | {"PreStartupCommand": "cat /no/such/file"}
    with lab(tmp_path, backend=backend) as it:
        it.start_store()
        daemon = it.cluster.start_daemon(1)
        assert daemon.process.wait(20) == 1
        said = it.log(1)
        why = "cat: /no/such/file: No such file or directory"
        last = f"flannelette: PreStartupCommand: exit 1: {why}"
        assert said.splitlines()[-1] == last
        assert "lease: " not in said
        assert not (tmp_path / "h1" / "subnet.env").exists()


def test_alloc_is_a_lease_and_nothing_else(tmp_path: Path) -> None:
    """7.6."""
    with lab(tmp_path, ipv6=True, backend={"Type": "alloc"}) as it:
        it.start_store()
        before = routes(it, 1)
        daemon = it.cluster.start_daemon(1)
        until(lambda: it.is_ready(1))
        status = it.status(1)
        assert status["node"]["datapath"] == "others"
        assert status["node"]["mtu"] == status["node"]["mtu6"] == 1500
        assert "alloc, which others carry" in shown(it, 1)
        assert "FLANNEL_MTU=1500\n" in (tmp_path / "h1" / "subnet.env").read_text()
        links = json.loads(it.rig.run(it.rig.host(1), [IP, "-j", "link"]).stdout)
        assert {link["ifname"] for link in links} == {"lo", "eth0"}
        assert routes(it, 1) == before
        assert Doctor(it).findings() == []
        daemon.process.terminate()
        assert daemon.process.wait(20) == 0
