"""Links through netlink, on real devices in a namespace of the test's own."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from flannelette.tun import interfaces
from flannelette.tun.device import CLONE_DEVICE, open_tun
from flannelette.tun.interfaces import Interface
from flannelette.tun.link import LinkState, Netlink
from flannelette.tun.netlink import Worker, dump
from tests.helpers import freshnet, uvloops
from tests.helpers.freshnet import in_fresh_net, ip, shown
from tests.helpers.ns import needs_namespaces, until

DESIRED = LinkState(
    name="fl0",
    address=IPv4Interface("10.5.1.0/32"),
    mtu=1472,
    routes=(IPv4Network("10.5.0.0/16"),),
)
FRESH = (
    "link add name fl0 type veth peer name peer0",
    "link set peer0 up",
    "link set lo up",
)


def with_netlink(
    body: Callable[[Netlink], Awaitable[None]], setup: Sequence[str] = FRESH
) -> None:
    freshnet.with_netlink(body, setup)


# ---- what there is -------------------------------------------------------------------


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


# ---- the worker ----------------------------------------------------------------------


@needs_namespaces
def test_the_kernel_picks_what_a_dump_asks_for() -> None:
    """A machine may have 100 000 routes: they must not all come up here."""

    def routes(ip: Any, **criteria: Any) -> list[Any]:
        return dump(ip.route, family=2, **criteria)

    async def run() -> None:
        ip(*FRESH, "link set fl0 up", "address add 10.1.0.1/24 dev fl0")
        ip(*(f"route add 10.9.{n}.0/24 dev peer0" for n in range(50)))
        worker = Worker()
        try:
            (device,) = await worker.call(lambda ip: ip.link("get", ifname="fl0"))
            index = device["index"]
            assert len(await worker.call(routes)) > 50
            there = await worker.call(lambda ip: routes(ip, table=254, oif=index))
            assert [route.get("dst") for route in there] == ["10.1.0.0"]
            (address,) = await worker.call(
                lambda ip: dump(ip.addr, family=2, index=index)
            )
            assert address.get("local") == "10.1.0.1"
        finally:
            await worker.close()

    in_fresh_net(run)


async def test_closing_ends_the_thread_and_the_socket() -> None:
    def look() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = look()
    netlink = Netlink()
    await netlink.interfaces()
    assert look() > before
    await netlink.close()
    assert look() == before


async def test_closing_what_was_never_used() -> None:
    await Netlink().close()


async def test_failures_leave_no_descriptors() -> None:
    worker = Worker()
    try:
        await worker.call(lambda ip: ip.link("get", index=1))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await worker.call(lambda ip: 1 / 0)
            await worker.call(lambda ip: ip.link("get", index=1))
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        await worker.close()


async def test_a_failed_socket_is_replaced() -> None:
    """After ENOBUFS pyroute2's socket answers nothing but ENOBUFS."""

    def fail(ip: Any) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    worker = Worker()
    try:
        first = await worker.call(lambda ip: ip)
        assert await worker.call(lambda ip: ip) is first
        with pytest.raises(OSError, match="No buffer space"):
            await worker.call(fail)
        assert await worker.call(lambda ip: ip) is not first
    finally:
        await worker.close()


async def test_the_programs_choice_of_loops_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after uvloop.install(): uvloop has no netlink sockets."""
    monkeypatch.setattr(asyncio, "new_event_loop", uvloops.new_event_loop)
    netlink = Netlink()
    try:
        assert (await netlink.interfaces())[0].name == "lo"
    finally:
        await netlink.close()


async def test_a_cancelled_call_does_not_disturb_the_next() -> None:
    worker = Worker()
    started, go_on = threading.Event(), threading.Event()

    def slow(ip: Any) -> None:
        started.set()
        assert go_on.wait(5)

    try:
        call = asyncio.create_task(worker.call(slow))
        assert await asyncio.to_thread(started.wait, 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go_on.set()
        (device,) = await worker.call(lambda ip: ip.link("get", index=1))
        assert device.get("ifname") == "lo"
    finally:
        await worker.close()


async def test_calls_are_made_one_at_a_time() -> None:
    running: list[int] = []

    def one(ip: Any) -> int:
        running.append(1)
        ip.link("get", index=1)
        count = len(running)
        running.pop()
        return count

    worker = Worker()
    try:
        counts = await asyncio.gather(*(worker.call(one) for _ in range(20)))
    finally:
        await worker.close()
    assert counts == [1] * 20


def entry(interrupted: bool) -> dict[str, Any]:
    return {"header": {"flags": 0x12 if interrupted else 0x02}}


def test_an_interrupted_dump_is_asked_for_again() -> None:
    answers = [[entry(False), entry(True)], [entry(True)], [entry(False)], []]

    def call(command: str, **criteria: Any) -> Sequence[Any]:
        # With a filter of its own pyroute2 would not hand the criteria on.
        assert (command, criteria) == ("dump", {"index": 3, "dump_filter": None})
        return answers.pop(0)

    assert dump(call, index=3) == [entry(False)]
    assert answers == [[]]


def test_a_dump_that_is_always_interrupted_is_an_error() -> None:
    with pytest.raises(BlockingIOError, match="do not stop changing"):
        dump(lambda command, **criteria: [entry(True)])
