"""Our nodes in overlays that the kernel carries, and what they repair there."""

from __future__ import annotations

import json
import signal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, get_args

import pytest

from flannelette.benchmarks.cluster import FLANNELETTE
from flannelette.benchmarks.rig import Wire
from flannelette.control.lease import LeaseAttrs
from tests.helpers.lab import Lab, lab
from tests.helpers.leases import delete_leases, write_leases
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.overlays import check_some
from tests.helpers.paused import paused

pytestmark = needs_namespaces
KERNEL = {"Type": "vxlan", "Datapath": "kernel"}
HOST_GW = {"Type": "host-gw"}


def shown(it: Lab, number: int, command: str) -> Any:
    """What `ip -details -json COMMAND` says on a host."""
    ip = ["ip", "-details", "-json", *command.split()]
    return json.loads(it.rig.run(it.rig.host(number), ip).stdout or "[]")


def restart(it: Lab, number: int) -> None:
    process = it.cluster.daemons[number].process
    process.terminate()
    assert process.wait(20) == 0
    it.cluster.start_daemon(number)
    until(lambda: it.is_ready(number))


@pytest.mark.parametrize("direct", [False, True], ids=["vxlan", "direct"])
def test_vxlan_in_dual_stack(tmp_path: Path, direct: bool) -> None:
    backend = KERNEL | {"VNI": 7, "Port": 4789, "DirectRouting": direct}
    with lab(tmp_path, ipv6=True, backend=backend) as it:
        it.up()
        check_some(it, 1, 2)
        status = it.status(1)
        assert status["node"]["device"] == "flannel.7"
        assert status["counters"] is None
        assert status["repairs"] == 0
        assert {route["direct"] for route in status["routes"]} == {direct}
        for name, mtu in (("flannel.7", 1450), ("flannel-v6.7", 1430)):
            [link] = shown(it, 1, f"link show {name}")
            assert link["mtu"] == mtu
            assert link["address"] == status["node"]["mac"]
            assert link["linkinfo"]["info_data"]["id"] == 7
            assert link["linkinfo"]["info_data"]["port"] == 4789
            assert len(shown(it, 1, f"neigh show dev {name} nud permanent")) == (
                0 if direct else 1
            )


def test_what_the_kernel_has_lost_is_told_again(tmp_path: Path) -> None:
    """V16, V19: flanneld would not. A route and a neighbour, and elsewhere a device."""
    with lab(tmp_path, hosts=3, backend=KERNEL) as it:
        it.up()
        for number in (1, 2):  # a status tells of routes that the kernel has only soon
            it.until_reaches(number, 3)
        host, mac = it.rig.host(1), it.status(2)["node"]["mac"]
        other = it.status(3)["lease"]["subnet"]
        with paused(it, 1, 2):
            flush = "neigh flush dev flannel.1 nud all"
            it.rig.ip(host, f"route delete {other}", flush)
            it.rig.ip(it.rig.host(2), "link delete flannel.1")
            assert not it.reaches(1, 3)
        it.until_reaches(1, 3)
        it.until_reaches(2, 3)
        # What is repaired is counted only then.
        until(lambda: it.status(1)["repairs"] >= 2)
        assert shown(it, 2, "link show flannel.1")[0]["address"] == mac
        for number in (1, 2):
            until(lambda n=number: "repaired: what=" in it.log(n))  # type: ignore[misc]


@pytest.mark.parametrize(
    "backend",
    [KERNEL, KERNEL | {"DirectRouting": True}, HOST_GW],
    ids=["vxlan", "direct", "host-gw"],
)
def test_the_interface_is_made_anew(tmp_path: Path, backend: dict[str, Any]) -> None:
    """As by a driver that is loaded again: the wire has another index then, and what
    lay on it is gone."""
    with lab(tmp_path, backend=backend) as it:
        it.up()
        it.until_reaches(1, 2)
        one, two = it.rig.host(1), it.rig.host(2)
        it.rig.ip(one, "link delete eth0")
        it.rig.ip(one, f"link add eth0 type veth peer name eth0 netns {two}")
        for number in (1, 2):
            address = f"address add {it.rig.address(number)}/24 dev eth0"
            it.rig.ip(it.rig.host(number), address, "link set eth0 up")
            it.cluster.daemons[number].process.send_signal(signal.SIGHUP)
        it.until_reaches(1, 2)
        until(lambda: it.is_ready(1) and it.is_ready(2))
        if "DirectRouting" in backend:
            until(lambda: it.status(1)["routes"][0]["direct"])


@pytest.mark.parametrize("backend", [KERNEL, HOST_GW], ids=["vxlan", "host-gw"])
def test_the_kernel_goes_on_without_us(tmp_path: Path, backend: dict[str, str]) -> None:
    """C8: and through a restart; who has left meanwhile is forgotten (#2554)."""
    with lab(tmp_path, backend=backend) as it:
        it.up()
        it.until_reaches(1, 2)
        attrs = LeaseAttrs(IPv4Address("192.0.2.77"), backend_type=backend["Type"])
        if backend == KERNEL:
            data = '{"VNI":1,"VtepMAC":"02:00:00:00:00:77"}'
            attrs = LeaseAttrs(IPv4Address("192.0.2.77"), None, "vxlan", data)
        [gone] = write_leases(tmp_path / "store.sqlite", attrs)
        until(lambda: shown(it, 1, f"route show {gone}"))
        links = {link["ifname"]: link["ifindex"] for link in shown(it, 1, "link")}

        process = it.cluster.daemons[1].process
        process.terminate()
        assert process.wait(20) == 0
        it.reach(1, 2)
        assert shown(it, 1, f"route show {gone}")

        delete_leases(tmp_path / "store.sqlite", gone)
        it.cluster.start_daemon(1)
        until(lambda: it.is_ready(1))
        until(lambda: not shown(it, 1, f"route show {gone}"))
        it.reach(1, 2)
        assert {
            link["ifname"]: link["ifindex"] for link in shown(it, 1, "link")
        } == links, "the devices are the same"
        assert it.status(1)["repairs"] == 0


def test_host_gw_in_dual_stack(tmp_path: Path) -> None:
    """7.1; with a route that was lost, and one that somebody else has set wrong."""
    with lab(tmp_path, ipv6=True, backend=HOST_GW) as it:
        it.up()
        check_some(it, 1, 2)
        assert it.status(1)["repairs"] == 0
        lease, host = it.status(2)["lease"], it.rig.host(1)
        with paused(it, 1):
            it.rig.ip(
                host,
                f"route replace {lease['subnet']} via 192.0.2.99",
                f"route delete {lease['subnet6']}",
            )
            assert not it.reaches(1, 2)
        it.until_reaches(1, 2)
        it.until_reaches(1, 2, version=6)
        [route] = shown(it, 1, f"route show {lease['subnet']}")
        assert (route["gateway"], route["dev"]) == ("192.0.2.2", "eth0")


def test_host_gw_behind_a_translation_is_refused(tmp_path: Path) -> None:
    """7.1: in one line, and before there is a lease."""
    with lab(tmp_path, backend=HOST_GW) as it:
        it.start_store()
        daemon = it.cluster.start_daemon(1, "--public-ip=198.51.100.7")
        assert daemon.process.wait(20) == 1
        why = "flannelette: host-gw: the public IP 198.51.100.7 is not the address"
        assert it.log(1).splitlines()[-1].startswith(why)
        assert not (tmp_path / "h1" / "subnet.env").exists()


@pytest.mark.parametrize("backend", [KERNEL, HOST_GW], ids=["vxlan", "host-gw"])
def test_the_kernel_needs_no_tun(tmp_path: Path, backend: dict[str, str]) -> None:
    with lab(tmp_path, backend=backend) as it:
        it.start_store()
        hide = 'mount -t tmpfs none /dev/net && exec "$@"'
        directory = tmp_path / "h1"
        directory.mkdir()
        command = [
            *("unshare", "--mount", "sh", "-c", hide, "sh", *FLANNELETTE, "run"),
            f"--store=local:{tmp_path / 'store.sqlite'}",
            f"--subnet-file={directory / 'subnet.env'}",
        ]
        with (directory / "log").open("wb") as log:
            it.rig.popen(it.rig.host(1), command, stdout=log, stderr=log)
        until(lambda: "ready: " in it.log(1))


@pytest.mark.parametrize("wire", get_args(Wire))
def test_a_kernel_and_a_node_of_ours_are_one_overlay(
    tmp_path: Path, wire: Wire
) -> None:
    """The same leases, and the same packets on the wire."""
    with lab(tmp_path, store="static", ipv6=True, backend={"Type": "vxlan"}) as it:
        it.rig.set_wire(wire)
        it.start_store()
        ours = tmp_path / "peers.toml"
        other = tmp_path / "kernel.toml"
        text = ours.read_text()
        assert 'Type = "vxlan"' in text
        other.write_text(text.replace('"vxlan"', '"vxlan", Datapath = "kernel"'))
        it.cluster.start_daemon(1)
        it.cluster.start_daemon(2, f"--store=static:{other}")
        for number in (1, 2):
            until(lambda n=number: it.is_ready(n))  # type: ignore[misc]
        it.add_pods()
        assert it.status(1)["node"]["datapath"] == "native"
        assert it.status(2)["node"]["datapath"] == "kernel"
        check_some(it, 1, 2)
        assert it.drops(1, "rx") == {}
