"""IPv6 on links through netlink, on real devices in a namespace of the test's own."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Interface, IPv6Network

import pytest

from flannelette.tun.link import Netlink
from tests.helpers.freshnet import ip, shown, with_netlink
from tests.helpers.links import (
    DESIRED,
    NO_LINK_LOCAL,
    assert_as_desired,
    ipv6_setting,
    settled,
)
from tests.helpers.ns import needs_namespaces

pytestmark = needs_namespaces

DUAL = replace(
    DESIRED,
    address6=IPv6Interface("fd00:5:1::/128"),
    routes6=(IPv6Network("fd00:5::/32"),),
    mtu6=1452,
)


def assert_dual(metric: int | None = 1452) -> None:
    """As iproute2 sees it."""
    assert_as_desired()
    (device,) = shown("address show dev fl0")
    (address,) = [
        a
        for a in device["addr_info"]
        if a["family"] == "inet6" and a["scope"] == "global"
    ]
    assert (address["local"], address["prefixlen"]) == ("fd00:5:1::", 128)
    assert "tentative" not in address
    (route,) = shown("-6 route show fd00:5::/32")
    assert (route["dev"], route["protocol"]) == ("fl0", "boot")
    assert {"prefsrc", "gateway"}.isdisjoint(route)
    metrics = [{"mtu": metric}] if metric else [{}]
    assert route.get("metrics", [{}]) == metrics
    assert ipv6_setting("accept_ra").read_text() == "0\n"


def test_a_fresh_device_gets_ipv6_and_stays_silent() -> None:
    async def body(netlink: Netlink) -> None:
        assert await netlink.reconcile(DUAL) == [
            "MTU changed from 1500 to 1472",
            "IPv6 address generation switched off",
            "packets from our own address let in",
            "address 10.5.1.0/32 added",
            "router advertisements ignored",
            "address fd00:5:1::/128 added",
            "link brought up",
            "route 10.5.0.0/16 added",
            "route fd00:5::/32 added",
        ]
        assert_dual()
        (device,) = shown("address show dev fl0")
        there = [a["local"] for a in device["addr_info"]]
        assert there == ["10.5.1.0", "fd00:5:1::"]  # no fe80::
        assert await netlink.reconcile(DUAL) == []

    with_netlink(body)


@pytest.mark.parametrize("mtu6", [0, 1472, 9000])
def test_an_mtu_of_ipv6_that_says_nothing_new_is_left_out(mtu6: int) -> None:
    async def body(netlink: Netlink) -> None:
        state = replace(DUAL, mtu6=mtu6)
        await netlink.reconcile(state)
        assert_dual(metric=None)
        assert await netlink.reconcile(state) == []
        assert await netlink.reconcile(DUAL) == [
            "wrong route fd00:5::/32 removed",
            "route fd00:5::/32 added",
        ]
        assert_dual()

    with_netlink(body)


REROUTED = ["wrong route fd00:5::/32 removed", "route fd00:5::/32 added"]


@pytest.mark.parametrize(
    ("drift", "repairs"),
    [
        (
            "link set fl0 down",
            [
                "address fd00:5:1::/128 added",
                "link brought up",
                "route 10.5.0.0/16 added",
                "route fd00:5::/32 added",
            ],
        ),
        ("address del fd00:5:1::/128 dev fl0", ["address fd00:5:1::/128 added"]),
        ("address add fd00:7::1/64 dev fl0", ["address fd00:7::1/64 removed"]),
        (
            "address add fd00:7::1 peer fd00:8::1/128 dev fl0",
            ["address fd00:7::1/128 removed"],
        ),
        ("route del fd00:5::/32", ["route fd00:5::/32 added"]),
        ("route change fd00:5::/32 dev fl0", REROUTED),
        ("route change fd00:5::/32 dev fl0 mtu 1300", REROUTED),
        ("route change fd00:5::/32 dev fl0 mtu 1452 src fd00:5:1::", REROUTED),
        ("route change fd00:5::/32 via fe80::9 dev fl0", REROUTED),
        (
            "route add fd00:5::/32 dev fl0 mtu 1452 metric 7\n"
            "route del fd00:5::/32 dev fl0 metric 1024",
            ["route fd00:5::/32 added"],
        ),
    ],
)
def test_drift_of_ipv6_is_repaired_and_named(drift: str, repairs: list[str]) -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile(DUAL)
        ip(*drift.splitlines())
        assert await netlink.reconcile(DUAL) == repairs
        ip(*["route del fd00:5::/32 metric 7"] * ("metric 7" in drift))
        assert_dual()
        assert await netlink.reconcile(DUAL) == []

    with_netlink(body)


def test_ipv6_that_is_off_is_switched_on_for_an_address() -> None:
    async def body(netlink: Netlink) -> None:
        ipv6_setting("disable_ipv6").write_text("1")
        await netlink.reconcile(DESIRED)
        assert ipv6_setting("disable_ipv6").read_text() == "1\n"
        assert "IPv6 switched on" in await netlink.reconcile(DUAL)
        assert_dual()
        ipv6_setting("accept_ra").write_text("2")
        assert await netlink.reconcile(DUAL) == ["router advertisements ignored"]
        assert_dual()

    with_netlink(body)


def test_link_local_addresses_and_others_routes_stay_v10() -> None:
    foreign = (
        "address add fe80::5/64 dev fl0 nodad",
        "route add fd00:9::/32 dev fl0",
        "route add fd00:5::/32 dev peer0 metric 2000",
        "route add fd00:5::/33 dev peer0",
    )

    async def body(netlink: Netlink) -> None:
        ip(NO_LINK_LOCAL)
        await netlink.reconcile(DUAL)
        ip(*foreign)
        before = settled()
        assert await netlink.reconcile(DUAL) == []
        assert settled() == before

    with_netlink(body)


def test_another_devices_ipv6_route_is_not_taken() -> None:
    async def body(netlink: Netlink) -> None:
        ip("route add fd00:5::/32 dev peer0")
        with pytest.raises(FileExistsError) as caught:
            await netlink.reconcile(DUAL)
        assert caught.value.__notes__ == [
            "while adding the route fd00:5::/32",
            "another device has it: peer0",
        ]
        ip("route del fd00:5::/32 dev peer0")
        assert await netlink.reconcile(DUAL) == ["route fd00:5::/32 added"]

    with_netlink(body)


def test_too_small_an_mtu_for_ipv6_is_said() -> None:
    """RFC 8200 section 5: IPv6 needs 1280 bytes."""

    async def body(netlink: Netlink) -> None:
        with pytest.raises(OSError, match="Invalid argument") as caught:
            await netlink.reconcile(replace(DUAL, mtu=1279))
        assert caught.value.__notes__ == [
            "while adding the address fd00:5:1::/128",
            "IPv6 needs disable_ipv6=0 and an MTU of 1280 bytes",
        ]

    with_netlink(body)
