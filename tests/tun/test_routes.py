"""Peers' subnets as kernel routes: flannel-behaviour.md 7.1 and V11, real kernel."""

from __future__ import annotations

import errno
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

import pytest

from flannelette.tun.link import Netlink
from flannelette.tun.repairs import Address, Network
from flannelette.tun.routes import Exit, Way
from tests.helpers import freshnet
from tests.helpers.freshnet import ip, shown
from tests.helpers.ns import needs_namespaces
from tests.helpers.vxlandevices import LOWER as EXTERNAL, WIRE, with_netlink

pytestmark = needs_namespaces

B, C = IPv4Network("10.5.2.0/24"), IPv4Network("10.5.3.0/24")
B6, C6 = IPv6Network("fd00:5:0:2::/64"), IPv6Network("fd00:5:0:3::/64")
OVERLAY = IPv4Network("10.5.0.0/16"), IPv6Network("fd00:5::/32")
DESIRED: dict[Network, Address] = {
    B: ip_address("192.0.2.2"),
    C: ip_address("192.0.2.3"),
    B6: ip_address("2001:db8::2"),
    C6: ip_address("2001:db8::3"),
}


def told(*networks: Network) -> list[str]:
    return [f"route {network} via {DESIRED[network]} set" for network in networks]


def forgotten(*networks: Network) -> list[str]:
    return [f"route {network} via {DESIRED[network]} removed" for network in networks]


def routes() -> list[dict[str, Any]]:
    return [
        route
        for family in (4, 6)
        for route in shown(f"-{family} route show")
        if "gateway" in route
    ]


def assert_as_desired(desired: dict[Network, Address]) -> None:
    there = {(route["dst"], route["gateway"], route["dev"]) for route in routes()}
    wanted = {(str(network), str(via), "eth0") for network, via in desired.items()}
    assert there == wanted


# ---- host-gw -------------------------------------------------------------------------


def test_peers_routes_are_set_with_our_mark_7_1() -> None:
    async def body(netlink: Netlink) -> None:
        repairs = await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY)
        assert repairs == told(*DESIRED)
        assert_as_desired(DESIRED)
        for route in routes():
            assert (route["protocol"], route["scope"]) == ("70", "global")
            assert "onlink" not in route["flags"]  # a gateway off the link is refused
        assert await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY) == []

    with_netlink(body)


@pytest.mark.parametrize(
    ("drift", "missing"),
    [
        ("route del 10.5.2.0/24", B),
        ("route del fd00:5:0:2::/64", B6),
        ("route replace 10.5.2.0/24 via 192.0.2.66", B),
        ("route replace fd00:5:0:2::/64 via 2001:db8::66", B6),
        ("route replace 10.5.2.0/24 dev wire0", B),
        ("route replace 10.5.2.0/24 via 192.0.2.2 mtu 576", B),
        ("route replace blackhole 10.5.2.0/24", B),
        ("route replace 10.5.2.0/24 nexthop via 192.0.2.2 nexthop via 192.0.2.3", B),
    ],
)
def test_drift_is_repaired_and_named_7_1(drift: str, missing: Network) -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY)
        ip(drift)
        repairs = await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY)
        assert repairs == told(missing)
        assert_as_desired(DESIRED)
        assert await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY) == []

    with_netlink(body)


def test_changes_alone_come_to_the_same_as_a_look_at_all() -> None:
    async def body(netlink: Netlink) -> None:
        b: dict[Network, Address] = {B: DESIRED[B]}
        none: dict[Network, Address] = {}
        await netlink.reconcile_peer_routes(b, EXTERNAL, OVERLAY)
        c: dict[Network, Address] = {C: DESIRED[C], C6: DESIRED[C6]}
        moved: dict[Network, Address] = {C: DESIRED[B], C6: DESIRED[C6]}
        for gone, new, left in (
            (none, c, b | c),
            (b, none, c),
            (b, none, c),  # it is gone already
            (c, moved, moved),
            (moved, none, none),
        ):
            await netlink.change_peer_routes(gone, new, EXTERNAL)
            assert_as_desired(left)
            assert await netlink.reconcile_peer_routes(left, EXTERNAL, OVERLAY) == []

    with_netlink(body)


def test_routes_come_back_with_the_link() -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY)
        ip("link set eth0 down", "link set eth0 up")
        ip("address replace 2001:db8::1/64 dev eth0 nodad")
        repairs = await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY)
        assert repairs == told(*DESIRED)
        assert_as_desired(DESIRED)

    with_netlink(body)


def test_peers_that_leave_are_forgotten_even_after_a_restart() -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY)
        left: dict[Network, Address] = {C: DESIRED[C], C6: DESIRED[C6]}
        assert await netlink.reconcile_peer_routes(
            left, EXTERNAL, OVERLAY
        ) == forgotten(B, B6)
        assert_as_desired(left)
        fresh = Netlink()
        try:
            assert await fresh.reconcile_peer_routes(
                {}, EXTERNAL, OVERLAY
            ) == forgotten(C, C6)
        finally:
            await fresh.close()
        assert_as_desired({})

    with_netlink(body)


def test_another_external_interface_takes_the_routes_along() -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY)
        ip(
            "link add name new0 index 9 type veth peer name other0",
            "link set new0 up",
            "link set other0 up",
            "address del 192.0.2.1/24 dev eth0",
            "address add 192.0.2.1/24 dev new0",
        )
        left: dict[Network, Address] = {B: DESIRED[B]}
        await netlink.reconcile_peer_routes(left, 9, OVERLAY)
        (route,) = routes()
        assert (route["dst"], route["dev"]) == (str(B), "new0")

    with_netlink(body)


def test_an_equal_route_of_somebody_elses_is_kept_7_1() -> None:
    async def body(netlink: Netlink) -> None:
        ip(
            "route add 10.5.2.0/24 via 192.0.2.2 proto static",
            "route add fd00:5:0:2::/64 via 2001:db8::2 proto static",
        )
        repairs = await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY)
        assert repairs == told(C, C6)
        assert_as_desired(DESIRED)
        assert await netlink.reconcile_peer_routes({}, EXTERNAL, OVERLAY) == forgotten(
            C, C6
        )
        left: dict[Network, Address] = {B: DESIRED[B], B6: DESIRED[B6]}
        assert_as_desired(left)

    with_netlink(body)


def test_what_others_have_added_stays() -> None:
    foreign = (
        "route add 10.9.0.0/16 via 192.0.2.9",
        "route add fd09::/64 via 2001:db8::9",
        "route add 10.5.2.0/24 via 192.0.2.9 metric 7",
        "route add 10.5.2.0/25 via 192.0.2.9",
        "route add 10.8.0.0/24 via 192.0.2.9 proto 70 table 100",
        # Of another daemon of ours, which has an overlay of its own.
        "route add 10.6.2.0/24 via 192.0.2.9 proto 70",
        "route add fd00:6:0:2::/64 via 2001:db8::9 proto 70",
    )

    async def body(netlink: Netlink) -> None:
        ip(*foreign)
        before = shown("route show table all"), shown("-6 route show table all")
        await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY)
        assert await netlink.reconcile_peer_routes(DESIRED, EXTERNAL, OVERLAY) == []
        await netlink.reconcile_peer_routes({}, EXTERNAL, OVERLAY)
        after = shown("route show table all"), shown("-6 route show table all")
        assert before == after

    with_netlink(body)


def test_a_peer_off_the_link_does_not_stop_the_others() -> None:
    async def body(netlink: Netlink) -> None:
        astray = DESIRED | {B: ip_address("198.51.100.2")}
        with pytest.raises(OSError, match="unreachable") as caught:
            await netlink.reconcile_peer_routes(astray, EXTERNAL, OVERLAY)
        assert caught.value.errno == errno.ENETUNREACH
        note = "while routing 10.5.2.0/24 via 198.51.100.2"
        assert caught.value.__notes__ == [note]
        del astray[B]
        assert_as_desired(astray)

    with_netlink(body)


# ---- DirectRouting -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "index"),
    [
        ("192.0.2.2", EXTERNAL),
        ("2001:db8::2", EXTERNAL),
        ("198.51.100.2", None),  # behind a gateway
        ("2001:db8:1::2", None),
        ("198.51.100.130", None),  # behind one of another IP version
        ("203.0.113.1", None),  # nowhere
        ("2001:db8:2::1", None),
        ("192.0.2.1", None),  # our own
        ("2001:db8::1", None),
        ("192.0.2.255", None),  # everybody's
        ("10.66.0.1", None),
        ("10.67.0.1", None),
        ("10.68.0.1", None),
        ("fd66::1", None),
        ("fd67::1", None),
        ("fd68::1", None),
    ],
)
def test_an_address_is_on_link_or_not_v11(address: str, index: int | None) -> None:
    async def body(netlink: Netlink) -> None:
        ip(
            "route add 198.51.100.0/25 via 192.0.2.9",
            "route add 198.51.100.128/25 via inet6 2001:db8::9 dev eth0",
            "route add 2001:db8:1::/64 via 2001:db8::9",
            "route add blackhole 10.66.0.0/16",
            "route add prohibit 10.67.0.0/16",
            "route add unreachable 10.68.0.0/16",
            "route add blackhole fd66::/16",
            "route add prohibit fd67::/16",
            "route add unreachable fd68::/16",
        )
        assert await netlink.on_link(ip_address(address)) == index

    with_netlink(body)


@pytest.mark.parametrize(
    ("address", "exit"),
    [
        # I4: the preferred source, not the interface's first address.
        ("192.0.2.9", Exit("eth0", ip_address("192.0.2.1"))),
        ("10.5.2.1", Exit("eth0", ip_address("192.0.2.7"))),
        ("10.5.3.1", Exit("wire0", ip_address("192.0.2.1"))),
        ("2001:db8::9", Exit("eth0", ip_address("2001:db8::1"))),
        # No route, to ourselves, and none that leads on.
        ("198.51.100.1", None),
        ("192.0.2.1", None),
        ("127.0.0.1", None),
        ("10.5.9.1", None),
        ("10.5.10.1", None),
        ("2001:db8::1", None),
        ("2001:db8:1::1", None),
    ],
)
def test_the_exit_to_an_address_i4(address: str, exit: Exit | None) -> None:
    async def body(netlink: Netlink) -> None:
        assert await netlink.exit_to(ip_address(address)) == exit

    lines = (
        "address add 192.0.2.7/24 dev eth0",
        f"route add {B} via 192.0.2.2 dev eth0 src 192.0.2.7",
        "route add 10.5.0.0/16 dev wire0",
        "route add blackhole 10.5.9.0/24",
        "route add unreachable 10.5.10.0/24",
    )
    freshnet.with_netlink(body, (*WIRE, *lines))


@pytest.mark.parametrize(
    ("address", "way"),
    [
        ("192.0.2.9", Way(IPv4Network("192.0.2.0/24"), "eth0", None)),
        ("10.5.2.0", Way(B, "eth0", ip_address("192.0.2.2"))),
        ("10.5.3.0", Way(IPv4Network("10.5.0.0/16"), "wire0", None)),
        ("fd00:5:0:2::", Way(B6, "eth0", ip_address("2001:db8::2"))),
        ("198.51.100.1", None),
        ("192.0.2.1", None),
        ("10.5.9.1", None),
        ("2001:db8:1::1", None),
    ],
)
def test_the_way_to_an_address(address: str, way: Way | None) -> None:
    async def body(netlink: Netlink) -> None:
        asked = ip_address(address)
        assert await netlink.ways_to([asked]) == {asked: way}

    lines = (
        f"route add {B} via 192.0.2.2 dev eth0",
        "route add 10.5.0.0/16 dev wire0",
        "route add blackhole 10.5.9.0/24",
        f"route add {B6} via 2001:db8::2 dev eth0",
    )
    freshnet.with_netlink(body, (*WIRE, *lines))
