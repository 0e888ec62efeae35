"""The kernel's VXLAN device when it is not as it should be: V6, V7 and V19.

It is taken over or made anew, each difference is repaired and named, and what others
have added stays."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from ipaddress import IPv4Interface
from typing import Any

import pytest

from flannelette.benchmarks.netns import tool
from flannelette.tun.link import Netlink
from flannelette.tun.vxlan import VxlanState
from tests.helpers.freshnet import ip, shown
from tests.helpers.ns import needs_namespaces
from tests.helpers.vxlandevices import (
    B6,
    C6,
    LAYERS,
    LOWER,
    ROUTE,
    STATE,
    STATE6,
    B,
    C,
    assert_as_desired,
    setting,
    told,
    with_netlink,
)

pytestmark = needs_namespaces

# ---- the name is taken, or free again ------------------------------------------------


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


# ---- drift ---------------------------------------------------------------------------


def run(command: str) -> None:
    """A line of ip(8) or bridge(8), or a setting and a value of flannel.1."""
    program, *words = command.split()
    if program == "sysctl":
        name, value = words
        setting("flannel.1", name).write_text(value)
    else:
        subprocess.run([tool(program), *words], check=True)


def assert_repaired(state: VxlanState, drift: str, repairs: list[str]) -> None:
    """At the next look, and there is nothing to do at the one after."""

    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(state)
        for line in drift.splitlines():
            run(line)
        assert await netlink.reconcile_vxlan(state) == repairs
        assert_as_desired(state)
        assert await netlink.reconcile_vxlan(state) == []

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
    assert_repaired(STATE, drift, repairs)


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
    assert_repaired(STATE6, drift, repairs)


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


def there() -> tuple[Any, Any, Any]:
    """Routes, neighbours and addresses, without a mark that goes by itself: that an
    address is being checked for duplicates."""
    links = shown("address show")
    for address in (each for link in links for each in link["addr_info"]):
        address.pop("tentative", None)
    return shown("route show"), shown("neighbour show"), links


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
        before = there()
        assert await netlink.reconcile_vxlan(STATE) == []
        assert there() == before

    with_netlink(body)
