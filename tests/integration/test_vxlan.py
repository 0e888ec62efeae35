"""Our nodes in a vxlan overlay that they carry themselves."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from flannelette.control.lease import LeaseAttrs
from tests.helpers.direct import until_direct
from tests.helpers.lab import Lab, lab
from tests.helpers.leases import write_leases
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.overlays import check_some

pytestmark = needs_namespaces
VXLAN_BACKEND = {"Type": "vxlan"}
WAYS: list[dict[str, Any]] = [
    {"store": "local"},
    {"store": "etcd", "driver": "threads", "flags": ["--queues=2"]},
    {"store": "static", "driver": "loop", "flags": ["--offload=none"]},
    {"store": "local", "datapath": "python", "driver": "loop"},
]


@pytest.mark.parametrize("way", WAYS, ids=["local", "etcd", "static", "python"])
def test_dual_stack_both_ways(tmp_path: Path, way: dict[str, Any]) -> None:
    with lab(tmp_path, ipv6=True, backend=VXLAN_BACKEND, **way) as it:
        it.up()
        check_some(it, 1, 2)
        for number in (1, 2):
            assert it.drops(number, "rx") == {}
            assert it.status(number)["repairs"] == 0
            if way["store"] == "static":
                assert it.status(number)["node"]["mac"] == f"02:00:00:00:00:0{number}"
            env = (tmp_path / f"h{number}" / "subnet.env").read_text()
            assert "FLANNEL_MTU=1430\n" in env, "the smaller of the two"
            assert "FLANNEL_IPV6_SUBNET=fd00:5:0:" in env


def test_vni_port_and_mac_on_the_wire(tmp_path: Path) -> None:
    """V1, V2: and each destination MAC is the peer's (W5)."""
    backend = {"Type": "vxlan", "VNI": 0xABCDEF, "Port": 4789}
    with lab(tmp_path, backend=backend) as it:
        it.up()
        capture = it.capture_in(it.rig.host(2), "eth0")
        with capture:
            it.reach(1, 2)
            while True:
                data, (_, protocol, *_) = capture.recvfrom(1 << 16)
                # The IP header is there: it is the outer one.
                if protocol == 0x0800 and data[9] == 17:
                    break
        datagram = UDP(data[20:])
        assert datagram.dport == 4789
        header = VXLAN(bytes(datagram.payload))
        assert (int(header.flags), header.vni) == (0x08, 0xABCDEF)
        frame = header[Ether]
        macs = {it.status(n)["node"]["mac"] for n in (1, 2)}
        assert {frame.src, frame.dst} == macs
        check_some(it, 1, 2, (4,))


def test_a_restart_keeps_the_mac_and_a_new_one_is_followed(tmp_path: Path) -> None:
    """V7, V15."""
    with lab(tmp_path, backend=VXLAN_BACKEND) as it:
        it.up()
        first = it.status(2)["node"]["mac"]
        kept = tmp_path / "h2" / "subnet.env.mac"
        assert kept.read_text() == f"{first}\n"

        restart(it, 2)
        assert it.status(2)["node"]["mac"] == first
        it.until_reaches(1, 2)

        kept.unlink()
        restart(it, 2)
        assert it.status(2)["node"]["mac"] != first
        it.until_reaches(1, 2)
        check_some(it, 1, 2, (4,))


def restart(it: Lab, number: int) -> None:
    process = it.cluster.daemons[number].process
    process.terminate()
    assert process.wait(20) == 0
    it.cluster.start_daemon(number)
    until(lambda: it.is_ready(number))


def test_leases_that_cannot_be_peers_are_told_once(tmp_path: Path) -> None:
    """L7, H4; and one with our MAC could not be sent anything."""
    with lab(tmp_path, backend=VXLAN_BACKEND) as it:
        it.up()
        store, own = tmp_path / "store.sqlite", it.status(1)["node"]["mac"]
        nobody = IPv4Address("0.0.0.0")
        bad = [
            LeaseAttrs(nobody, None, "vxlan", f'{{"VNI":1,"VtepMAC":"{own}"}}'),
            LeaseAttrs(nobody, None, "vxlan", '{"VtepMAC":"ff:ff:ff:ff:ff:ff"}'),
            LeaseAttrs(nobody, None, "vxlan", '{"VNI":1}'),
            LeaseAttrs(nobody, None, "host-gw"),
        ]
        subnets = write_leases(
            store,
            *(
                replace(attrs, public_ip=IPv4Address(f"192.0.2.{n}"))
                for n, attrs in enumerate(bad, 70)
            ),
        )
        until(lambda: len(it.status(1)["ignored"]) == len(bad))
        assert {each["subnet"]: each["reason"] for each in it.status(1)["ignored"]} == {
            subnets[0]: "our own MAC",
            subnets[1]: "the VtepMAC ff:ff:ff:ff:ff:ff is no device's",
            subnets[2]: "no VtepMAC",
            subnets[3]: "backend host-gw, not vxlan",
        }
        # To host 2 the first of them is a peer like any other.
        until(lambda: len(it.status(2)["routes"]) == 2)
        for subnet in subnets:
            assert len(re.findall(f"ignored a lease: subnet={subnet}", it.log(1))) == 1
        assert all(IPv4Network(r["subnet"]) for r in it.status(1)["routes"])
        it.reach(1, 2)


@pytest.mark.parametrize("check", ["peer", "strict"])
def test_strict_takes_a_peer_s_own_addresses_alone(tmp_path: Path, check: str) -> None:
    flags = [f"--peer-check={check}"]
    with lab(tmp_path, backend=VXLAN_BACKEND, flags=flags) as it:
        it.up()
        stranger = "203.0.113.7"
        pod, host = it.pods[1], it.rig.host(1)
        it.rig.ip(pod.ns, f"address add {stranger}/32 dev eth0")
        it.rig.ip(host, f"route add {stranger} dev cni0")
        command = ["ping", "-n", "-c1", "-W1", "-I", stranger, it.address(2)]
        it.rig.run(pod.ns, command, check=False)
        if check == "strict":
            until(lambda: it.drops(2, "rx") == {"wrong_source": 1})
        else:
            assert it.drops(2, "rx") == {}
        assert it.status(2)["node"]["peer_check"] == check
        it.reach(1, 2)


def test_a_kernel_device_that_has_the_port_is_named(tmp_path: Path) -> None:
    """W11: one that was left from Datapath kernel, or by flanneld."""
    with lab(tmp_path, backend=VXLAN_BACKEND) as it:
        it.start_store()
        device = "flannel.1 type vxlan id 1 dev eth0 dstport 8472"
        it.rig.ip(it.rig.host(1), f"link add {device}", "link set flannel.1 up")
        assert it.cluster.start_daemon(1).process.wait(20) == 1
        last = it.log(1).splitlines()[-1]
        assert "Address already in use" in last
        assert last.endswith("stop that, then `ip link delete flannel.1`")


def test_direct_routing(tmp_path: Path) -> None:
    """V11, W14: between hosts of one segment packets are as they are; a lost route
    comes back."""
    backend = {"Type": "vxlan", "DirectRouting": True}
    with lab(tmp_path, ipv6=True, backend=backend) as it:
        it.up()
        until_direct(it, 1, 2)
        check_some(it, 1, 2)
        assert it.status(1)["counters"]["tx"]["packets"] == 0
        host, lease = it.rig.host(1), it.status(2)["lease"]

        def carried() -> bool:
            """Without the route; not if it comes back before the packet."""
            it.rig.ip(host, f"route flush exact {lease['subnet']}")
            it.reach(1, 2)
            packets: int = it.status(1)["counters"]["tx"]["packets"]
            return packets > 0

        until(carried)
        until(lambda: it.status(1)["repairs"] > 0)
        until_direct(it, 1)
        shown = it.rig.run(host, ["ip", "route", "show", lease["subnet"]]).stdout
        assert "via 192.0.2.2 dev eth0" in shown
        assert "flannel0" not in shown
