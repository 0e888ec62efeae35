"""The kernel's VXLAN device as flanneld programs it, on the real kernel: V5 to V15."""

from __future__ import annotations

import errno
import json
import re
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path
from typing import Any

import pytest

from flannelette.benchmarks.netns import tool
from flannelette.tun import vxlan
from flannelette.tun.link import Netlink
from flannelette.tun.vxlan import VxlanState
from flannelette.tun.vxlanpeers import VxlanPeer
from tests.helpers import freshnet
from tests.helpers.freshnet import ip, shown
from tests.helpers.ns import needs_namespaces

pytestmark = needs_namespaces

LOWER = 7
"""Index of the external interface."""
WIRE = (
    f"link add name eth0 index {LOWER} type veth peer name wire0",
    "link set eth0 up",
    "link set wire0 up",
    "link set lo up",
    "address add 192.0.2.1/24 dev eth0",
    "address add 2001:db8::1/64 dev eth0 nodad",
)
B, C = (
    VxlanPeer(
        IPv4Network(f"10.5.{n}.0/24"),
        f"02:00:00:00:00:0{n}",
        IPv4Address(f"192.0.2.{n}"),
    )
    for n in (2, 3)
)
STATE = VxlanState(
    name="flannel.1",
    vni=1,
    port=8472,
    lower=LOWER,
    local=IPv4Address("192.0.2.1"),
    mac="02:00:00:00:00:01",
    mtu=1450,
    address=IPv4Interface("10.5.1.0/32"),
    peers=(B, C),
)
B6, C6 = (
    VxlanPeer(
        IPv6Network(f"fd00:5:0:{n}::/64"),
        f"02:00:00:00:06:0{n}",
        IPv6Address(f"2001:db8::{n}"),
    )
    for n in (2, 3)
)
STATE6 = replace(
    STATE,
    name="flannel-v6.1",
    local=IPv6Address("2001:db8::1"),
    mtu=1430,
    address=IPv6Interface("fd00:5:0:1::/128"),
    peers=(B6, C6),
)
BOTH = pytest.mark.parametrize("state", [STATE, STATE6], ids=["IPv4", "IPv6"])
LAYERS = (
    "neighbour {0.gateway} set to {0.mac}",
    "FDB entry {0.mac} set to {0.address}",
)
ROUTE = "route {0.subnet} via {0.gateway} set"


def told(peers: Sequence[VxlanPeer]) -> list[str]:
    """The repairs that make these peers known."""
    return [line.format(peer) for line in (*LAYERS, ROUTE) for peer in peers]


def forgotten(peer: VxlanPeer) -> list[str]:
    return [
        f"neighbour {peer.gateway} removed",
        f"FDB entry {peer.mac} removed",
        f"route {peer.subnet} via {peer.gateway} removed",
    ]


def with_netlink(body: Callable[[Netlink], Awaitable[None]]) -> None:
    freshnet.with_netlink(body, WIRE)


def bridge(*words: str) -> Any:
    command = [tool("bridge"), "-json", *words]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout or "[]")


def fdb(name: str) -> dict[str, tuple[str, ...]]:
    """Where each MAC leads to, as iproute2 sees it; permanent and self, all of it."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in bridge("fdb", "show", "dev", name):
        assert (entry["state"], entry["flags"]) == ("permanent", ["self"])
        assert "port" not in entry
        found[entry["mac"]] = (*found.get(entry["mac"], ()), entry["dst"])
    return found


def neighbours(name: str) -> dict[str, str]:
    return {
        entry["dst"]: entry["lladdr"]
        for entry in shown(f"neighbour show dev {name} nud permanent")
    }


def peer_routes(state: VxlanState) -> dict[str, str]:
    family = state.address.version
    routes = shown(f"-{family} route show dev {state.name}")
    found = {}
    for route in routes:
        if "gateway" in route:
            assert "onlink" in route["flags"]
            assert (route["scope"], route["protocol"]) == ("global", "boot")
            found[route["dst"]] = route["gateway"]
    return found


def addresses(state: VxlanState) -> list[str]:
    family = "inet" if state.address.version == 4 else "inet6"
    (device,) = shown(f"address show dev {state.name}")
    return [
        f"{a['local']}/{a['prefixlen']}"
        for a in device["addr_info"]
        if a["family"] == family and a["scope"] == "global"
    ]


def assert_as_desired(state: VxlanState) -> None:
    (device,) = shown(f"link show {state.name}")
    assert (device["address"], device["mtu"]) == (state.mac, state.mtu)
    assert "UP" in device["flags"]
    assert addresses(state) == [str(state.address)]
    assert neighbours(state.name) == {str(p.gateway): p.mac for p in state.peers}
    assert fdb(state.name) == {p.mac: (str(p.address),) for p in state.peers}
    assert peer_routes(state) == {str(p.subnet): str(p.gateway) for p in state.peers}


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


# ---- drift ---------------------------------------------------------------------------

VXLAN = "link add flannel.1 type vxlan nolearning"


@pytest.mark.parametrize(
    ("other", "removal"),
    [
        (f"{VXLAN} id 2 dev eth0 local 192.0.2.1 dstport 8472", "VNI was 2, not 1"),
        (
            f"{VXLAN} id 1 dev wire0 local 192.0.2.1 dstport 8472",
            rf"external interface was \d+, not {LOWER}",
        ),
        (
            f"{VXLAN} id 1 dev eth0 local 192.0.2.9 dstport 8472",
            "local address was 192.0.2.9, not 192.0.2.1",
        ),
        (
            f"{VXLAN} id 1 dev eth0 local 2001:db8::1 dstport 8472",
            "local address was 2001:db8::1, not 192.0.2.1",
        ),
        (
            f"{VXLAN} id 1 dev eth0 dstport 8472",
            "local address was None, not 192.0.2.1",
        ),
        (
            f"{VXLAN} id 1 dev eth0 local 192.0.2.1 dstport 4789",
            "port was 4789, not 8472",
        ),
        (
            f"{VXLAN} id 1 dev eth0 local 192.0.2.1 dstport 8472 gbp",
            "GBP was True, not False",
        ),
        (
            f"{VXLAN} id 1 dev eth0 local 192.0.2.1 dstport 8472 l2miss",
            "l2miss was True, not False",
        ),
        ("link add flannel.1 type veth peer name other0", "kind was veth"),
    ],
)
def test_an_unusable_device_is_made_anew_v6(other: str, removal: str) -> None:
    async def body(netlink: Netlink) -> None:
        ip(other)
        removed, *rest = await netlink.reconcile_vxlan(STATE)
        assert re.fullmatch(f"device removed: its {removal}", removed)
        assert rest[0] == "device created"
        assert_as_desired(STATE)
        assert await netlink.reconcile_vxlan(STATE) == []

    with_netlink(body)


def test_a_usable_device_is_taken_over_with_our_mac_and_mtu_v6_v7() -> None:
    async def body(netlink: Netlink) -> None:
        ip(
            f"{VXLAN} id 1 dev eth0 local 192.0.2.1 dstport 8472",
            "link set flannel.1 address 02:00:00:00:00:77 mtu 1400",
        )
        (before,) = shown("link show flannel.1")
        repairs = await netlink.reconcile_vxlan(STATE)
        assert "device created" not in repairs
        assert "MAC changed from 02:00:00:00:00:77 to 02:00:00:00:00:01" in repairs
        assert repairs[-1] == "MTU changed from 1400 to 1450"
        (after,) = shown("link show flannel.1")
        assert before["ifindex"] == after["ifindex"]
        assert_as_desired(STATE)

    with_netlink(body)


def test_a_device_that_is_gone_comes_back_with_all_peers_v19() -> None:
    async def body(netlink: Netlink) -> None:
        first = await netlink.reconcile_vxlan(STATE)
        ip("link del flannel.1")
        assert await netlink.reconcile_vxlan(STATE) == first
        assert_as_desired(STATE)

    with_netlink(body)


NEIGHBOUR, ENTRY = (layer.format(B) for layer in LAYERS)


@pytest.mark.parametrize(
    ("drift", "repairs"),
    [
        (
            "ip link set flannel.1 down",
            # The FDB outlives it.
            ["link brought up", *(x for x in told((B, C)) if "FDB" not in x)],
        ),
        ("ip link set flannel.1 mtu 1400", ["MTU changed from 1400 to 1450"]),
        (
            "ip link set flannel.1 type vxlan learning",
            ["learning switched off"],
        ),
        ("sysctl accept_ra 2", ["router advertisements ignored"]),
        (
            "ip address add 10.7.0.1/24 dev flannel.1",
            ["address 10.7.0.1/24 removed"],
        ),
        (
            "ip address del 10.5.1.0/32 dev flannel.1",
            [
                "address 10.5.1.0/32 added",
                *(x for x in told((B, C)) if "FDB" not in x),
            ],
        ),
        ("ip neighbour del 10.5.2.0 dev flannel.1", [NEIGHBOUR]),
        (
            "ip neighbour change 10.5.2.0 dev flannel.1 "
            "lladdr 02:00:00:00:00:66 nud permanent",
            [NEIGHBOUR],
        ),
        (
            "ip neighbour change 10.5.2.0 dev flannel.1 "
            "lladdr 02:00:00:00:00:02 nud stale",
            [NEIGHBOUR],
        ),
        (
            "ip neighbour add 10.5.9.0 dev flannel.1 "
            "lladdr 02:00:00:00:00:09 nud permanent",
            ["neighbour 10.5.9.0 removed"],
        ),
        ("bridge fdb del 02:00:00:00:00:02 dev flannel.1", [ENTRY]),
        (
            "bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.66",
            [ENTRY],
        ),
        (
            "bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2 port 99",
            [ENTRY],
        ),
        (
            "bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.66\n"
            "bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.67",
            ["FDB entry 00:00:00:00:00:00 removed"],
        ),
        ("ip route del 10.5.2.0/24", [ROUTE.format(B)]),
        ("ip route replace 10.5.2.0/24 dev flannel.1", [ROUTE.format(B)]),
        ("ip route replace 10.5.2.0/24 via 192.0.2.2", [ROUTE.format(B)]),
        (
            "ip route replace 10.5.2.0/24 via 10.5.3.0 dev flannel.1 onlink",
            [ROUTE.format(B)],
        ),
        (
            "ip route add 10.5.9.0/24 via 10.5.9.0 dev flannel.1 onlink",
            ["route 10.5.9.0/24 via 10.5.9.0 removed"],
        ),
    ],
)
def test_drift_is_repaired_and_named(drift: str, repairs: list[str]) -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(STATE)
        for line in drift.splitlines():
            run(line)
        assert await netlink.reconcile_vxlan(STATE) == repairs
        assert_as_desired(STATE)
        assert await netlink.reconcile_vxlan(STATE) == []

    with_netlink(body)


def setting(device: str, name: str) -> Path:
    return Path(f"/proc/sys/net/ipv6/conf/{device}/{name}")


def run(command: str) -> None:
    """A line of ip(8) or bridge(8), or a setting and a value of flannel.1."""
    program, *words = command.split()
    if program == "sysctl":
        name, value = words
        setting("flannel.1", name).write_text(value)
    else:
        subprocess.run([tool(program), *words], check=True)


@pytest.mark.parametrize(
    ("drift", "repairs"),
    [
        (
            "ip link set flannel-v6.1 down",
            [
                "address fd00:5:0:1::/128 added",
                "link brought up",
                *(x for x in told((B6, C6)) if "FDB" not in x),
            ],
        ),
        (
            "ip address add fd00:7::1/64 dev flannel-v6.1 nodad",
            ["address fd00:7::1/64 removed"],
        ),
        ("ip route del fd00:5:0:2::/64", [ROUTE.format(B6)]),
        ("ip route add fd00:5:0:2::/65 dev flannel-v6.1", []),
        (
            "ip route replace fd00:5:0:2::/64 dev flannel-v6.1",
            [ROUTE.format(B6)],
        ),
        (
            "ip route replace fd00:5:0:2::/64 via fd00:5:0:3:: dev flannel-v6.1 onlink",
            [ROUTE.format(B6)],
        ),
        (
            "ip route add fd00:5:0:9::/64 via fd00:5:0:9:: dev flannel-v6.1 onlink",
            ["route fd00:5:0:9::/64 via fd00:5:0:9:: removed"],
        ),
        (
            "ip neighbour add fd00:5:0:9:: dev flannel-v6.1 "
            "lladdr 02:00:00:00:00:09 nud permanent",
            ["neighbour fd00:5:0:9:: removed"],
        ),
        (
            "bridge fdb replace 02:00:00:00:06:02 dev flannel-v6.1 dst 2001:db8::66",
            ["FDB entry 02:00:00:00:06:02 set to 2001:db8::2"],
        ),
    ],
)
def test_drift_of_ipv6_is_repaired_and_named(drift: str, repairs: list[str]) -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(STATE6)
        for line in drift.splitlines():
            run(line)
        assert await netlink.reconcile_vxlan(STATE6) == repairs
        assert_as_desired(STATE6)
        assert await netlink.reconcile_vxlan(STATE6) == []

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


def test_what_others_have_added_stays() -> None:
    foreign = (
        "route add 172.16.0.0/12 via 10.5.2.0 dev flannel.1 onlink",
        "route add 10.5.9.0/24 via 10.5.9.0 dev flannel.1 onlink metric 7",
        "route add 10.5.2.0/24 via 192.0.2.2 metric 8",
        "route add 10.5.8.0/24 via 192.0.2.8",
        "neighbour add 10.5.7.7 dev flannel.1 lladdr 02:00:00:00:00:08 nud stale",
        "address add fd00:7::1/64 dev flannel.1 nodad",
    )

    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(STATE)
        ip(*foreign)
        before = [shown(f"{what} show") for what in ("route", "neighbour", "address")]
        assert await netlink.reconcile_vxlan(STATE) == []
        after = [shown(f"{what} show") for what in ("route", "neighbour", "address")]
        assert before == after

    with_netlink(body)


# ---- peers come and go ---------------------------------------------------------------


@BOTH
def test_peers_that_leave_are_forgotten_v14_v16(state: VxlanState) -> None:
    async def body(netlink: Netlink) -> None:
        b, c = state.peers
        await netlink.reconcile_vxlan(state)
        alone = replace(state, peers=(c,))
        assert await netlink.reconcile_vxlan(alone) == forgotten(b)
        assert_as_desired(alone)
        none = replace(state, peers=())
        # Also by a daemon that has never known them.
        fresh = Netlink()
        try:
            assert await fresh.reconcile_vxlan(none) == forgotten(c)
        finally:
            await fresh.close()
        assert_as_desired(none)

    with_netlink(body)


def test_a_peers_new_mac_and_address_are_followed_v15() -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(STATE)
        b = replace(B, mac="02:00:00:00:00:22")
        moved = replace(STATE, peers=(b, C))
        assert await netlink.reconcile_vxlan(moved) == [
            *(layer.format(b) for layer in LAYERS),
            f"FDB entry {B.mac} removed",  # flanneld leaves it
        ]
        assert_as_desired(moved)
        b = replace(b, address=IPv4Address("192.0.2.22"))
        moved = replace(STATE, peers=(b, C))
        assert await netlink.reconcile_vxlan(moved) == [LAYERS[1].format(b)]
        assert_as_desired(moved)

    with_netlink(body)


@BOTH
def test_changes_alone_come_to_the_same_as_a_look_at_all(state: VxlanState) -> None:
    async def body(netlink: Netlink) -> None:
        b, c = state.peers
        one = replace(state, peers=(b,))
        await netlink.reconcile_vxlan(one)
        away = replace(b, address=state.local + 40, mac="02:00:00:00:00:44")
        for gone, new, left in (
            ([], [c], (b, c)),
            ([b], [away], (away, c)),
            ([c], [], (away,)),
            ([c], [], (away,)),  # it is gone already
            ([away], [b, c], (b, c)),
            ([b, c], [], ()),
        ):
            await netlink.change_vxlan(state.name, gone, new)
            desired = replace(state, peers=left)
            assert_as_desired(desired)
            assert await netlink.reconcile_vxlan(desired) == []
        ip(f"link delete {state.name}")
        with pytest.raises(OSError, match="there is no device") as caught:
            await netlink.change_vxlan(state.name, [], [b])
        assert caught.value.errno == errno.ENODEV

    with_netlink(body)


def test_a_change_that_fails_does_not_stop_the_others() -> None:
    """The kernel refuses what is its own address for a gateway."""

    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(replace(STATE, peers=()))
        ip("address add 10.5.2.0/32 dev lo")
        with pytest.raises(OSError, match=r"Invalid argument") as caught:
            await netlink.change_vxlan(STATE.name, [], [B, C])
        assert caught.value.__notes__ == ["while routing 10.5.2.0/24 via 10.5.2.0"]
        ip("address del 10.5.2.0/32 dev lo")
        assert await netlink.reconcile_vxlan(STATE) == [ROUTE.format(B)]

    with_netlink(body)


def test_another_lease_and_mac_of_our_own_are_taken_on() -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(STATE)
        moved = replace(
            STATE, address=IPv4Interface("10.5.7.0/32"), mac="02:00:00:00:00:07"
        )
        assert await netlink.reconcile_vxlan(moved) == [
            "MAC changed from 02:00:00:00:00:01 to 02:00:00:00:00:07",
            "address 10.5.7.0/32 added",
            "address 10.5.1.0/32 removed",
            # With the MAC the kernel has dropped all neighbours.
            *map(LAYERS[0].format, moved.peers),
        ]
        assert_as_desired(moved)

    with_netlink(body)


def test_a_peer_that_fails_does_not_stop_the_others() -> None:
    async def body(netlink: Netlink) -> None:
        """The kernel refuses what is its own address for a gateway."""
        ip("address add 10.5.2.0/32 dev lo", "address add 10.5.3.0/32 dev lo")
        d = VxlanPeer(
            IPv4Network("10.5.4.0/24"),
            "02:00:00:00:00:04",
            IPv4Address("192.0.2.4"),
        )
        with pytest.raises(OSError, match="Invalid argument") as caught:
            await netlink.reconcile_vxlan(replace(STATE, peers=(B, C, d)))
        assert caught.value.errno == errno.EINVAL
        assert caught.value.__notes__ == [
            "while routing 10.5.2.0/24 via 10.5.2.0",
            "and 1 others failed",
        ]
        assert peer_routes(STATE) == {"10.5.4.0/24": "10.5.4.0"}

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
            note = "while setting the MTU of flannel.1 to 8950"
            assert caught.value.__notes__ == [note]
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
    words = ["-c", "2", "-i", "0.1", "-W", "5", "-s", str(size), "-M", "do"]
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
