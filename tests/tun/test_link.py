"""Links through netlink, on real devices in a namespace of the test's own."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path

import pytest

from flannelette.tun.device import CLONE_DEVICE, open_tun
from flannelette.tun.interfaces import Interface
from flannelette.tun.link import LinkState, Netlink
from tests.helpers import uvloops
from tests.helpers.freshnet import FRESH, in_fresh_net, ip, shown, with_netlink
from tests.helpers.ns import needs_namespaces

DESIRED = LinkState(
    name="fl0",
    address=IPv4Interface("10.5.1.0/32"),
    mtu=1472,
    routes=(IPv4Network("10.5.0.0/16"),),
)


# ---- how it should be ----------------------------------------------------------------


def assert_as_desired() -> None:
    """U4, as iproute2 sees it."""
    (device,) = shown("link show fl0")
    assert device["mtu"] == 1472
    assert "UP" in device["flags"]
    assert device["inet6_addr_gen_mode"] == "none"
    (device,) = shown("address show dev fl0")
    (address,) = [a for a in device["addr_info"] if a["family"] == "inet"]
    assert (address["local"], address["prefixlen"]) == ("10.5.1.0", 32)
    assert address["scope"] == "global"
    (route,) = shown("route show 10.5.0.0/16 scope global")
    assert route["dev"] == "fl0"
    assert {"prefsrc", "metric", "gateway"}.isdisjoint(route)
    assert route["protocol"] == "boot"


@needs_namespaces
def test_a_fresh_device_is_brought_to_its_desired_state_u4() -> None:
    async def body(netlink: Netlink) -> None:
        assert await netlink.reconcile(DESIRED) == [
            "MTU changed from 1500 to 1472",
            "IPv6 address generation switched off",
            "packets from our own address let in",
            "address 10.5.1.0/32 added",
            "link brought up",
            "route 10.5.0.0/16 added",
        ]
        assert_as_desired()
        (device,) = shown("address show dev fl0")
        assert [a["local"] for a in device["addr_info"]] == ["10.5.1.0"]  # no fe80::
        assert await netlink.reconcile(DESIRED) == []

    with_netlink(body)


@needs_namespaces
@pytest.mark.parametrize(
    ("drift", "repairs"),
    [
        ("link set fl0 mtu 9000", ["MTU changed from 9000 to 1472"]),
        ("link set fl0 down", ["link brought up", "route 10.5.0.0/16 added"]),
        (
            "address flush dev fl0",
            ["address 10.5.1.0/32 added", "route 10.5.0.0/16 added"],
        ),
        ("address add 10.7.0.1/24 dev fl0", ["address 10.7.0.1/24 removed"]),
        ("address add 10.5.1.0/24 dev fl0", ["address 10.5.1.0/24 removed"]),
        (
            "address add 10.7.0.1 peer 10.8.0.1/32 dev fl0",
            ["address 10.7.0.1/32 removed"],
        ),
        (
            "address add 10.7.0.1/24 dev fl0\naddress add 10.7.0.2/24 dev fl0",
            ["address 10.7.0.1/24 removed", "address 10.7.0.2/24 removed"],
        ),
        (
            "address add 10.5.1.0 peer 10.8.0.1/32 dev fl0\n"
            "address del 10.5.1.0/32 dev fl0",
            ["address 10.5.1.0/32 added", "address 10.5.1.0/32 removed"],
        ),
        ("route del 10.5.0.0/16", ["route 10.5.0.0/16 added"]),
        (
            "route add 10.5.0.0/16 dev fl0 metric 7\n"
            "route del 10.5.0.0/16 dev fl0 metric 0",
            ["route 10.5.0.0/16 added"],
        ),
        (
            "route replace 10.5.0.0/16 dev fl0 scope link",
            ["wrong route 10.5.0.0/16 removed", "route 10.5.0.0/16 added"],
        ),
        (
            "route replace 10.5.0.0/16 dev fl0 scope global src 10.5.1.0",
            ["wrong route 10.5.0.0/16 removed", "route 10.5.0.0/16 added"],
        ),
        (
            "route replace 10.5.0.0/16 dev fl0 scope global mtu 576",
            ["wrong route 10.5.0.0/16 removed", "route 10.5.0.0/16 added"],
        ),
        (
            "route replace 10.5.0.0/16 via 10.9.9.9 dev fl0 onlink",
            ["wrong route 10.5.0.0/16 removed", "route 10.5.0.0/16 added"],
        ),
        (
            "link set fl0 addrgenmode eui64",
            ["IPv6 address generation switched off"],
        ),
    ],
)
def test_drift_is_repaired_and_named(drift: str, repairs: list[str]) -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile(DESIRED)
        ip(*drift.splitlines())
        assert await netlink.reconcile(DESIRED) == repairs
        assert_as_desired()
        assert await netlink.reconcile(DESIRED) == []

    with_netlink(body)


# ---- dual-stack ----------------------------------------------------------------------

DUAL = replace(
    DESIRED,
    address6=IPv6Interface("fd00:5:1::/128"),
    routes6=(IPv6Network("fd00:5::/32"),),
    mtu6=1452,
)


def ipv6_setting(name: str, device: str = "fl0") -> Path:
    return Path(f"/proc/sys/net/ipv6/conf/{device}/{name}")


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


@needs_namespaces
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


@needs_namespaces
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


@needs_namespaces
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


@needs_namespaces
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


@needs_namespaces
def test_link_local_addresses_and_others_routes_stay_v10() -> None:
    foreign = (
        "address add fe80::5/64 dev fl0 nodad",
        "route add fd00:9::/32 dev fl0",
        "route add fd00:5::/32 dev peer0 metric 2000",
        "route add fd00:5::/33 dev peer0",
    )

    async def body(netlink: Netlink) -> None:
        await netlink.reconcile(DUAL)
        ip(*foreign)
        before = shown("-6 route show table all"), shown("address show")
        assert await netlink.reconcile(DUAL) == []
        assert (shown("-6 route show table all"), shown("address show")) == before

    with_netlink(body)


@needs_namespaces
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


@needs_namespaces
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


# ---- what belongs to IPv4 and IPv6 ---------------------------------------------------


def accept_local(value: str | None = None) -> str:
    setting = Path("/proc/sys/net/ipv4/conf/fl0/accept_local")
    if value is not None:
        setting.write_text(value)
    return setting.read_text().strip()


@needs_namespaces
def test_our_own_icmp_errors_are_let_in_again() -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile(DESIRED)
        assert accept_local() == "1"
        accept_local("0")
        repairs = await netlink.reconcile(DESIRED)
        assert repairs == ["packets from our own address let in"]
        assert accept_local() == "1"

    with_netlink(body)


@needs_namespaces
def test_another_lease_moves_the_address() -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile(DESIRED)
        moved = LinkState(
            "fl0", IPv4Interface("10.5.9.0/32"), 1472, (IPv4Network("10.5.0.0/16"),)
        )
        assert await netlink.reconcile(moved) == [
            "address 10.5.9.0/32 added",
            "address 10.5.1.0/32 removed",
        ]
        assert await netlink.reconcile(moved) == []

    with_netlink(body)


@needs_namespaces
def test_what_others_have_added_stays() -> None:
    foreign = (
        "route add 10.99.0.0/16 dev fl0",
        "route add 10.5.0.0/16 dev fl0 metric 7",
        "route add 10.5.0.0/16 dev peer0 metric 8",
        "route add 10.5.0.0/17 dev peer0",
        "route add 10.5.0.0/16 dev peer0 table 100",
        "address add fd00::5/64 dev fl0",
    )

    async def body(netlink: Netlink) -> None:
        await netlink.reconcile(DESIRED)
        ip(*foreign)
        before = shown("route show table all"), shown("address show")
        assert await netlink.reconcile(DESIRED) == []
        assert (shown("route show table all"), shown("address show")) == before

    with_netlink(body)


@needs_namespaces
def test_another_devices_route_is_not_taken() -> None:
    async def body(netlink: Netlink) -> None:
        ip("route add 10.5.0.0/16 dev peer0")
        with pytest.raises(FileExistsError) as caught:
            await netlink.reconcile(DESIRED)
        assert caught.value.__notes__ == [
            "while adding the route 10.5.0.0/16",
            "another device has it: peer0",
        ]
        (route,) = shown("route show 10.5.0.0/16")
        assert route["dev"] == "peer0"
        ip("route del 10.5.0.0/16 dev peer0")
        assert await netlink.reconcile(DESIRED) == ["route 10.5.0.0/16 added"]

    with_netlink(body)


@needs_namespaces
def test_a_device_that_is_gone_is_enodev() -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile(DESIRED)
        ip("link del fl0")
        with pytest.raises(OSError, match="No such device") as caught:
            await netlink.reconcile(DESIRED)
        assert caught.value.errno == errno.ENODEV
        assert caught.value.__notes__ == ["while looking at the device fl0"]
        ip(*FRESH[:1])
        assert "link brought up" in await netlink.reconcile(DESIRED)

    with_netlink(body)


@needs_namespaces
def test_a_refusal_says_what_was_tried() -> None:
    async def body(netlink: Netlink) -> None:
        wrong = LinkState("fl0", DESIRED.address, 10_000_000, ())
        with pytest.raises(OSError, match="Invalid argument") as caught:
            await netlink.reconcile(wrong)
        assert caught.value.errno == errno.EINVAL
        assert caught.value.__notes__ == ["while setting the MTU of fl0 to 10000000"]

    with_netlink(body)


@needs_namespaces
@pytest.mark.skipif(not Path(CLONE_DEVICE).exists(), reason=f"no {CLONE_DEVICE}")
@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloops.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_tun_device_under_both_loops(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def body() -> None:
        tun = open_tun()
        netlink = Netlink()
        try:
            desired = LinkState(tun.name, DESIRED.address, 1472, DESIRED.routes)
            assert "link brought up" in await netlink.reconcile(desired)
            assert await netlink.reconcile(desired) == []
            (device,) = shown(f"address show dev {tun.name}")
            assert [a["family"] for a in device["addr_info"]] == ["inet"]
            lo, found = await netlink.interfaces()
            assert found == Interface(
                found.index, tun.name, 1472, True, (DESIRED.address,)
            )
            assert not lo.up
        finally:
            await netlink.close()
            tun.close()

    in_fresh_net(body, loop)
