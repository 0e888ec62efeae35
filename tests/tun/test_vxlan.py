"""The kernel's VXLAN device as flanneld programs it, on the real kernel: V5 to V13.

How it is made, what the kernel refuses, and what it carries."""

from __future__ import annotations

import errno
import subprocess
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from flannelette.benchmarks.netns import tool
from flannelette.tun import vxlan
from flannelette.tun.link import Netlink
from flannelette.tun.vxlan import VxlanState
from tests.helpers.freshnet import ip, shown
from tests.helpers.ns import needs_namespaces
from tests.helpers.vxlandevices import (
    BOTH,
    STATE,
    STATE6,
    assert_as_desired,
    setting,
    told,
    with_netlink,
)

pytestmark = needs_namespaces

# ---- from nothing --------------------------------------------------------------------


@BOTH
def test_the_device_and_its_peers_v5_v12_v13(state: VxlanState) -> None:
    async def body(netlink: Netlink) -> None:
        assert await netlink.reconcile_vxlan(state) == [
            "device created",
            "router advertisements ignored",
            f"address {state.address} added",
            "link brought up",
            *told(state.peers),
        ]
        (device,) = shown(f"link show {state.name}")
        data = device["linkinfo"]["info_data"]
        local = "local" if state.address.version == 4 else "local6"
        assert data == {
            "id": 1,
            local: str(state.local),
            "link": "eth0",
            "port_range": {"low": 0, "high": 0},
            "port": 8472,
            "learning": False,
            "ttl": 0,
            "df": "unset",
            "ageing": 300,  # the kernel's own default: nothing was sent
            "udp_csum": True,
            "udp_zero_csum6_tx": False,
            "udp_zero_csum6_rx": False,
        }
        assert_as_desired(state)
        assert await netlink.reconcile_vxlan(state) == []

    with_netlink(body)


def test_both_ip_versions_side_by_side_v8() -> None:
    async def body(netlink: Netlink) -> None:
        for state in (STATE, STATE6):
            await netlink.reconcile_vxlan(state)
        for state in (STATE, STATE6):
            assert await netlink.reconcile_vxlan(state) == []
            assert_as_desired(state)

    with_netlink(body)


def test_gbp_learning_and_another_port_are_passed_on_v3() -> None:
    async def body(netlink: Netlink) -> None:
        state = replace(STATE, gbp=True, learning=True, port=4789, vni=9)
        await netlink.reconcile_vxlan(state)
        (device,) = shown("link show flannel.1")
        data = device["linkinfo"]["info_data"]
        wanted = {"gbp": True, "learning": True, "port": 4789, "id": 9}
        assert {name: data[name] for name in wanted} == wanted
        assert await netlink.reconcile_vxlan(state) == []

    with_netlink(body)


def test_without_a_port_the_kernel_chooses_and_any_will_do_v2_v6() -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(replace(STATE, port=0))
        (device,) = shown("link show flannel.1")
        assert device["linkinfo"]["info_data"]["port"] == 8472
        ip("link del flannel.1")
        await netlink.reconcile_vxlan(replace(STATE, port=4789))
        assert await netlink.reconcile_vxlan(replace(STATE, port=0)) == []

    with_netlink(body)


def test_ipv6_that_is_off_by_default_is_switched_on() -> None:
    async def body(netlink: Netlink) -> None:
        setting("default", "disable_ipv6").write_text("1")
        assert "IPv6 switched on" in await netlink.reconcile_vxlan(STATE6)
        assert_as_desired(STATE6)
        await netlink.reconcile_vxlan(STATE)
        # That one is none of our business.
        assert setting("flannel.1", "disable_ipv6").read_text() == "1\n"

    with_netlink(body)


# ---- what the kernel refuses ---------------------------------------------------------


def refused(state: VxlanState, number: int, note: str, *setup: str) -> None:
    async def body(netlink: Netlink) -> None:
        ip(*setup)
        with pytest.raises(OSError) as caught:  # noqa: PT011 (below)
            await netlink.reconcile_vxlan(state)
        assert caught.value.errno == number
        assert note in caught.value.__notes__

    with_netlink(body)


def test_a_kernel_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vxlan, "_KIND", "nosuchkind")
    note = "the kernel has no vxlan driver: modprobe vxlan"
    refused(STATE, errno.EOPNOTSUPP, note)


def test_another_device_with_our_vni() -> None:
    refused(
        STATE,
        errno.EEXIST,
        "another VXLAN device has VNI 1 on this port",
        "link add vx0 type vxlan id 1 dev eth0 local 192.0.2.1 dstport 8472",
    )


def test_another_program_with_our_port_w11() -> None:
    refused(
        STATE,
        errno.EADDRINUSE,
        "another program or device has the UDP port",
        "link add vx0 type vxlan id 1 dev eth0 local 192.0.2.1 dstport 8472 gbp",
        "link set vx0 up",
    )


def test_an_mtu_that_the_interface_has_no_room_for_costs_nothing_else() -> None:
    async def body(netlink: Netlink) -> None:
        big = replace(STATE, mtu=8950)
        for _ in range(2):
            with pytest.raises(OSError, match="Invalid argument") as caught:
                await netlink.reconcile_vxlan(big)
            note, why = caught.value.__notes__
            assert note == "while setting the MTU of flannel.1 to 8950"
            assert why.startswith("eth0 has an MTU of 1500, which leaves room for 1450")
        assert_as_desired(STATE)

    with_netlink(body)


# ---- what it carries -----------------------------------------------------------------

PEER = """\
ip address add 192.0.2.2/24 dev wire0
ip address add 2001:db8::2/64 dev wire0 nodad
ip link set wire0 up
ip link add vx type vxlan id 1 dev wire0 local 192.0.2.2 dstport 8472 nolearning
ip link set vx address 02:00:00:00:00:02 up
ip address add 10.5.2.0/32 dev vx
ip neighbour add 10.5.1.0 dev vx lladdr 02:00:00:00:00:01 nud permanent
bridge fdb add 02:00:00:00:00:01 dev vx dst 192.0.2.1
ip route add 10.5.1.0/24 via 10.5.1.0 dev vx onlink
ip link add vx6 type vxlan id 1 dev wire0 local 2001:db8::2 dstport 8472 nolearning
ip link set vx6 address 02:00:00:00:06:02 up
ip address add fd00:5:0:2::/128 dev vx6 nodad
ip neighbour add fd00:5:0:1:: dev vx6 lladdr 02:00:00:00:00:01 nud permanent
bridge fdb add 02:00:00:00:00:01 dev vx6 dst 2001:db8::1
ip route add fd00:5:0:1::/64 via fd00:5:0:1:: dev vx6 onlink
"""


class Peer:
    """A shell in a network namespace of its own, which ends with it."""

    def __init__(self) -> None:
        self._shell = subprocess.Popen(
            ["unshare", "--net", "sh", "-e"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._shell.pid
        self.run("")

    def run(self, script: str) -> None:
        """Fails when a line of it does."""
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(f"{script}echo done\n")
        self._shell.stdin.flush()
        assert self._shell.stdout.readline() == "done\n"

    def close(self) -> None:
        self._shell.communicate(timeout=10)


def ping(source: IPv4Interface | IPv6Interface, target: str, size: int) -> str:
    """Until two are answered: devices may be up a moment before they send."""
    words = ["-c", "2", "-i", "0.1", "-w", "20", "-s", str(size), "-M", "do"]
    command = [tool("ping"), *words, "-I", str(source.ip), target]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout


def test_a_peer_programmed_by_hand_is_reached_w5_w6() -> None:
    """With packets as long as the devices' MTUs, 1450 and 1430 bytes."""
    peer = Peer()

    async def body(netlink: Netlink) -> None:
        ip(f"link set wire0 netns {peer.pid}")
        peer.run(PEER)
        await netlink.reconcile_vxlan(STATE)
        await netlink.reconcile_vxlan(STATE6)
        assert " 2 received" in ping(STATE.address, "10.5.2.0", 1450 - 28)
        assert " 2 received" in ping(STATE6.address, "fd00:5:0:2::", 1430 - 48)

    try:
        with_netlink(body)
    finally:
        peer.close()
