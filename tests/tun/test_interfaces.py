"""What interfaces there are, on real devices in a namespace of the test's own."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from flannelette.tun import interfaces
from flannelette.tun.interfaces import Interface
from flannelette.tun.link import Netlink
from tests.helpers.freshnet import FRESH, ip, shown, with_netlink
from tests.helpers.ns import needs_namespaces, until


@needs_namespaces
def test_interfaces_with_their_addresses_in_the_order_of_i5() -> None:
    async def body(netlink: Netlink) -> None:
        lo, peer, eth = await netlink.interfaces()
        assert lo == Interface(
            index=1,
            name="lo",
            mtu=65536,
            up=True,
            addresses=(),
            unusable=(IPv4Interface("127.0.0.1/8"),),
            unusable6=(IPv6Interface("::1/128"),),
        )
        assert peer == Interface(peer.index, "peer0", 1500, False, ())
        assert eth == Interface(
            index=eth.index,
            name="fl0",
            mtu=1400,
            up=True,
            addresses=(
                IPv4Interface("10.1.0.1/24"),  # global, permanent, primary
                IPv4Interface("10.4.0.1/32"),  # the local end, not its peer's
                IPv4Interface("10.1.0.2/24"),  # secondary
                IPv4Interface("10.2.0.1/24"),  # dynamic
                IPv4Interface("169.254.1.1/16"),  # link-local
            ),
            unusable=(IPv4Interface("10.3.0.1/24"),),  # deprecated
            addresses6=(
                IPv6Interface("fd00:4::1/128"),  # the local end, not its peer's
                IPv6Interface("fd00:1::1/64"),  # global, permanent, added before
                IPv6Interface("fd00:2::1/64"),  # dynamic
                IPv6Interface("fe80::1/64"),  # link-local
            ),
            unusable6=(IPv6Interface("fd00:3::1/64"),),  # deprecated
        )
        assert [lo.index, peer.index, eth.index] == sorted(
            {lo.index, peer.index, eth.index}
        )

    with_netlink(
        body,
        (
            *FRESH[:1],
            "link set fl0 mtu 1400 up addrgenmode none",
            "link set lo up",
            "address add 169.254.1.1/16 dev fl0",
            "address add 10.3.0.1/24 dev fl0 preferred_lft 0",
            "address add 10.2.0.1/24 dev fl0 valid_lft 9999 preferred_lft 9999",
            "address add 10.1.0.1/24 dev fl0",
            "address add 10.1.0.2/24 dev fl0",
            "address add 10.4.0.1 peer 10.9.0.1/32 dev fl0",
            "address add fd00:3::1/64 dev fl0 nodad preferred_lft 0",
            "address add fd00:2::1/64 dev fl0 nodad valid_lft 9999 preferred_lft 9999",
            "address add fd00:1::1/64 dev fl0 nodad",
            "address add fd00:4::1 peer fd00:9::1/128 dev fl0 nodad",
            "address add fe80::1/64 dev fl0 nodad",
        ),
    )


@needs_namespaces
@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ((), None),
        (("default via 10.1.0.9",), "fl0"),
        (("default via 10.1.0.9 metric 200", "default dev peer0 metric 100"), "peer0"),
        (("10.0.0.0/8 dev peer0", "default dev fl0"), "fl0"),
        (("default dev peer0 table 100",), None),
        (("blackhole default", "default dev fl0 metric 9"), "fl0"),
        (("default nexthop dev peer0 nexthop dev fl0",), "peer0"),
        (("0.0.0.0/1 dev peer0",), None),
    ],
)
def test_the_default_interface_is_the_first_default_routes_i1(
    routes: Sequence[str], expected: str | None
) -> None:
    async def body(netlink: Netlink) -> None:
        assert await netlink.default_interface() == expected

    up = (*FRESH, "link set fl0 up", "address add 10.1.0.1/24 dev fl0")
    with_netlink(body, (*up, *(f"route add {route}" for route in routes)))


@needs_namespaces
def test_a_tentative_or_duplicate_address_is_not_usable_i5() -> None:
    async def body(netlink: Netlink) -> None:
        def find(name: str, there: list[Interface]) -> Interface:
            return next(interface for interface in there if interface.name == name)

        eth = find("fl0", await netlink.interfaces())
        assert (eth.addresses6, eth.unusable6) == ((), (IPv6Interface("fd00::1/64"),))
        ip("link set fl0 up")  # now it is looked for, and peer0 has it
        until(lambda: "dadfailed" in str(shown("address show dev fl0")))
        eth = find("fl0", await netlink.interfaces())
        assert (eth.addresses6, eth.unusable6) == ((), (IPv6Interface("fd00::1/64"),))

    with_netlink(
        body,
        (
            *FRESH,
            "link set fl0 addrgenmode none",
            "address add fd00::1/64 dev peer0 nodad",
            "address add fd00::1/64 dev fl0",
        ),
    )


def test_a_primary_address_goes_before_a_secondary_i5() -> None:
    """Today's kernels list them so; it is no promise of theirs."""
    device = {"index": 7, "ifname": "fl0", "mtu": 1500, "flags": 0}
    addresses = [
        {"family": 2, "local": "10.1.0.2", "prefixlen": 24, "flags": 0x81},
        {"family": 2, "local": "10.1.0.1", "prefixlen": 24, "flags": 0x80},
    ]
    assert interfaces._interface(device, addresses).addresses == (
        IPv4Interface("10.1.0.1/24"),
        IPv4Interface("10.1.0.2/24"),
    )


def test_a_temporary_address_goes_after_a_stable_one_i5() -> None:
    device = {"index": 7, "ifname": "fl0", "mtu": 1500, "flags": 0}
    addresses = [
        {"family": 10, "address": "fd00::2", "prefixlen": 64, "flags": 0x01},
        {"family": 10, "address": "fd00::1", "prefixlen": 64, "flags": 0x00},
    ]
    assert interfaces._interface(device, addresses).addresses6 == (
        IPv6Interface("fd00::1/64"),
        IPv6Interface("fd00::2/64"),
    )


@needs_namespaces
def test_ipv6_has_a_default_interface_of_its_own_i1() -> None:
    async def body(netlink: Netlink) -> None:
        assert await netlink.default_interface(6) is None
        ip("route add default via 10.1.0.9", "route add unreachable ::/0 metric 500")
        assert await netlink.default_interface(6) is None
        ip("route add ::/0 dev peer0 metric 2000")
        assert await netlink.default_interface(6) == "peer0"
        ip("route add ::/0 via fe80::9 dev fl0")
        assert await netlink.default_interface(6) == "fl0"
        assert await netlink.default_interface() == "fl0"
        ip("route del default")
        assert await netlink.default_interface() is None

    up = (*FRESH, "link set fl0 up", "address add 10.1.0.1/24 dev fl0")
    with_netlink(body, up)
