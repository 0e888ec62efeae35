"""Our node and the real flanneld in one vxlan cluster, over a real etcd."""

from __future__ import annotations

import errno
import json
import re
import socket
import time
from contextlib import AbstractContextManager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from flannelette.benchmarks.rig import Rig
from tests.helpers.datagrams import pod_sockets
from tests.helpers.gateway import PREFIX, Gateway
from tests.helpers.lab import DEADLINE, Lab
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.overlays import (
    DATA,
    check_all,
    check_gigabyte,
    check_none_dropped,
    check_some,
    switch_tx_off,
)
from tests.helpers.taps import tap_on
from tests.helpers.tcp import send_file
from tests.interop import flanneld as peers
from tests.interop.flanneld import (
    Flanneld,
    needs_flanneld,
    start_flanneld,
    start_ours,
)

pytestmark = [needs_namespaces, needs_flanneld]

VXLAN_PORT = 8472
MTU6 = 1430
"""What IPv6 over IPv6 leaves of 1500 bytes; flanneld tells 1450 in dual stack."""
MAC = re.compile(rb"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")


def restart_ours(it: Lab, number: int) -> None:
    it.rig.stop(it.cluster.daemons[number].process)
    start_ours(it, number)


def beside_flanneld(
    directory: Path,
    dual: bool = True,
    hosts: int = 2,
    pod_mtu: int = MTU6,
    **backend: Any,
) -> AbstractContextManager[tuple[Lab, Flanneld]]:
    """With vxlan. In dual stack flanneld's pod has the MTU that flanneld should have
    told (V8)."""
    config = {"Type": "vxlan", **backend}
    return peers.beside_flanneld(
        directory, hosts, pod_mtu=pod_mtu, ipv6=dual, backend=config
    )


def mac_of(it: Lab, number: int) -> str:
    mac: str = it.status(number)["node"]["mac"]
    return mac


@pytest.mark.parametrize("tx", ["on", "off"])
def test_all_of_it_both_ways(tmp_path: Path, tx: str) -> None:
    with beside_flanneld(tmp_path) as (it, _):
        if tx == "off":
            switch_tx_off(it)
        check_all(it, 1, 2)
        check_none_dropped(it, 1)


def test_a_pod_with_the_mtu_that_flanneld_tells(tmp_path: Path) -> None:
    """V8: it sends what is too long for IPv6's device and for our pod, learns that by
    ICMP, and goes on."""
    with beside_flanneld(tmp_path, pod_mtu=1450) as (it, _):
        for version in (4, 6):
            for source, target in ((1, 2), (2, 1)):
                it.until_reaches(source, target, version=version)
                assert send_file(it, source, target, DATA, version) == DATA
            with pod_sockets(it, 2, 1, version) as (sender, receiver):
                receiver.settimeout(0.1)
                until(lambda s=sender, r=receiver: arrives(s, r, bytes(1410)))  # type: ignore[misc]


def arrives(sender: socket.socket, receiver: socket.socket, data: bytes) -> bool:
    """Not if it is lost, or the sender has just been told why its last one was."""
    try:
        sender.send(data)
        return receiver.recv(65536) == data
    except OSError as error:
        if isinstance(error, TimeoutError) or error.errno == errno.EMSGSIZE:
            return False
        raise


def test_a_gigabyte_each_way(tmp_path: Path) -> None:
    """Over a common NIC: the kernel's is cut before it, ours by it."""
    with beside_flanneld(tmp_path, dual=False) as (it, _):
        it.rig.set_wire("nic")
        check_gigabyte(it, 1, 2)
        check_none_dropped(it, 1)


# ---- what others read ----------------------------------------------------------------


@pytest.mark.parametrize("dual", [False, True])
def test_leases_and_subnet_env_are_what_flanneld_writes(
    tmp_path: Path, dual: bool
) -> None:
    """But for addresses, MACs, and the MTU of dual stack (E3, L1, L2, L6, S1, S4, V8).

    Hosts with IPv6 alone do not make a cluster dual-stack (H2)."""
    backend = {"Type": "vxlan", "VNI": 42, "Port": 4789}
    with Rig(2, ipv6=True) as rig:
        it = Lab(rig, tmp_path, store="etcd", ipv6=dual, backend=backend)
        it.cluster.start_store(time.monotonic() + DEADLINE)
        start_ours(it, 1)
        flanneld = start_flanneld(it, 2)
        it.add_pod(1)
        it.pods[2] = flanneld.pod(MTU6 if dual else 1450)
        check_some(it, 1, 2, (4, 6) if dual else (4,))

        lease = it.status(1)["lease"]
        both = [lease["subnet"], lease["subnet6"]]
        theirs = [flanneld.subnet, flanneld.subnet6]
        assert both.count(None) == theirs.count(None) == (not dual)
        values = Gateway(rig).leases()
        assert values.keys() == {key_of(both), key_of(theirs)}
        ours, its = (values[key_of(subnets)][0] for subnets in (both, theirs))
        assert MAC.findall(ours) == [mac_of(it, 1).encode()] * (1 + dual)
        told = its.replace(b"192.0.2.2", b"192.0.2.1")
        told = told.replace(b"2001:db8::2", b"2001:db8::1")
        assert MAC.sub(b"MAC", ours) == MAC.sub(b"MAC", told)
        assert (b"BackendV6Data" in ours) is dual
        assert json.loads(ours)["BackendData"]["VNI"] == 42

        env = flanneld.subnet_file.read_text()
        for one, other in zip(both, theirs, strict=True):
            if one is not None and other is not None:
                env = env.replace(gateway_of(other), gateway_of(one))
        if dual:  # flanneld forgets that IPv6 headers are longer (V8)
            env = env.replace("FLANNEL_MTU=1450", "FLANNEL_MTU=1430")
        assert (tmp_path / "h1" / "subnet.env").read_text() == env


def key_of(subnets: list[Any]) -> str:
    return "&".join(subnet.replace("/", "-") for subnet in subnets if subnet)


def gateway_of(subnet: str) -> str:
    """As subnet.env tells a subnet."""
    return subnet.replace("::/", "::1/").replace(".0/", ".1/")


# ---- changes -------------------------------------------------------------------------


def test_restarts_of_either_side_and_new_macs(tmp_path: Path) -> None:
    with beside_flanneld(tmp_path) as (it, flanneld):
        before, subnets = mac_of(it, 1), it.status(1)["lease"]["subnet"]
        restart_ours(it, 1)
        assert (mac_of(it, 1), it.status(1)["lease"]["subnet"]) == (before, subnets)
        check_some(it, 1, 2)

        it.rig.stop(flanneld.process)
        check_some(it, 1, 2)  # its devices stay (C8)
        flanneld = start_flanneld(it, 2)
        check_some(it, 1, 2)

        it.rig.stop(flanneld.process)
        it.rig.ip(it.rig.host(2), "link delete flannel.1", "link delete flannel-v6.1")
        assert not it.reaches(1, 2)
        start_flanneld(it, 2)  # with MACs that nobody has seen (V7)
        check_some(it, 1, 2)

        it.rig.stop(it.cluster.daemons[1].process)
        (tmp_path / "h1" / "subnet.env.mac").unlink()
        start_ours(it, 1)
        assert mac_of(it, 1) != before
        check_some(it, 1, 2)


def test_flanneld_takes_over_our_host_and_back(tmp_path: Path) -> None:
    """Each time the host's MAC changes, and the peers follow."""
    with beside_flanneld(tmp_path, hosts=3) as (it, _):
        start_ours(it, 3)
        it.add_pod(3)
        lease = it.status(1)["lease"]
        it.rig.stop(it.cluster.daemons.pop(1).process)
        flanneld = start_flanneld(it, 1)
        assert (flanneld.subnet, flanneld.subnet6) == (
            lease["subnet"],
            lease["subnet6"],
        )
        check_some(it, 1, 2)
        check_some(it, 1, 3)

        it.rig.stop(flanneld.process)
        # What flanneld leaves behind has our port (C8, W11).
        ours = it.cluster.start_daemon(1).process
        assert ours.wait(DEADLINE) == 1
        assert "Address already in use" in it.log(1)
        assert "binding UDP 192.0.2.1:8472" in it.log(1)
        it.rig.ip(it.rig.host(1), "link delete flannel.1", "link delete flannel-v6.1")
        start_ours(it, 1)
        again = it.status(1)["lease"]
        assert (again["subnet"], again["subnet6"]) == (
            lease["subnet"],
            lease["subnet6"],
        )
        check_some(it, 1, 2)
        check_some(it, 1, 3)


def test_direct_routing(tmp_path: Path) -> None:
    """V11, W14: no VXLAN on the wire, either way."""
    with beside_flanneld(tmp_path, DirectRouting=True) as (it, _):
        until(lambda: all(route["direct"] for route in it.status(1)["routes"]))
        it.until_reaches(1, 2, version=6)
        with tap_on(it, 2) as tap:
            check_all(it, 1, 2)
            seen = [frame[26:30] for _, _, frame in tap.frames()]
            assert it.pods[1].address.packed in seen, "as it left the pod"
            check_all(it, 1, 2)
            assert list(tap.datagrams(VXLAN_PORT)) == []


# ---- three kinds ---------------------------------------------------------------------


def test_flanneld_and_ours_in_userspace_and_in_the_kernel(tmp_path: Path) -> None:
    """All pairs talk. A node reads the config when it starts (E12)."""
    with beside_flanneld(tmp_path, hosts=3) as (it, _):
        put_backend(it, {"Type": "vxlan", "Datapath": "kernel"})
        start_ours(it, 3)
        it.add_pod(3)
        assert it.status(1)["node"]["datapath"] == "native"
        assert it.status(3)["node"]["datapath"] == "kernel"
        assert it.status(3)["node"]["device"] == "flannel.1"
        for one, other in combinations((1, 2, 3), 2):
            check_all(it, one, other)
        check_none_dropped(it, 1)
        restart_ours(it, 3)
        for one, other in combinations((1, 2, 3), 2):
            check_some(it, one, other)


def put_backend(it: Lab, backend: dict[str, str]) -> None:
    """Change what nodes that start from now on read."""
    config = {
        "Network": "10.5.0.0/16",
        "EnableIPv6": True,
        "IPv6Network": "fd00:5::/48",
        "Backend": backend,
    }
    Gateway(it.rig).put(f"{PREFIX}/config", json.dumps(config).encode())
