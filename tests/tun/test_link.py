"""Links through netlink, on real devices in a namespace of the test's own.

All of them have IPv4; test_linkdual.py has what IPv6 adds."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from flannelette.tun.device import CLONE_DEVICE, open_tun
from flannelette.tun.interfaces import Interface
from flannelette.tun.link import LinkState, Netlink
from tests.helpers import uvloops
from tests.helpers.freshnet import FRESH, in_fresh_net, ip, shown, with_netlink
from tests.helpers.links import DESIRED, NO_LINK_LOCAL, assert_as_desired, settled
from tests.helpers.ns import needs_namespaces

pytestmark = needs_namespaces

# ---- how it should be ----------------------------------------------------------------


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


def accept_local(value: str | None = None) -> str:
    setting = Path("/proc/sys/net/ipv4/conf/fl0/accept_local")
    if value is not None:
        setting.write_text(value)
    return setting.read_text().strip()


def test_our_own_icmp_errors_are_let_in_again() -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile(DESIRED)
        assert accept_local() == "1"
        accept_local("0")
        repairs = await netlink.reconcile(DESIRED)
        assert repairs == ["packets from our own address let in"]
        assert accept_local() == "1"

    with_netlink(body)


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


# ---- what is not ours, and what is not there -----------------------------------------


def test_what_others_have_added_stays() -> None:
    foreign = (
        "route add 10.99.0.0/16 dev fl0",
        "route add 10.5.0.0/16 dev fl0 metric 7",
        "route add 10.5.0.0/16 dev peer0 metric 8",
        "route add 10.5.0.0/17 dev peer0",
        "route add 10.5.0.0/16 dev peer0 table 100",
        "address add fd00::5/64 dev fl0 nodad",
    )

    async def body(netlink: Netlink) -> None:
        ip(NO_LINK_LOCAL)
        await netlink.reconcile(DESIRED)
        ip(*foreign)
        before = settled()
        assert await netlink.reconcile(DESIRED) == []
        assert settled() == before

    with_netlink(body)


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


def test_a_refusal_says_what_was_tried() -> None:
    async def body(netlink: Netlink) -> None:
        wrong = LinkState("fl0", DESIRED.address, 10_000_000, ())
        with pytest.raises(OSError, match="Invalid argument") as caught:
            await netlink.reconcile(wrong)
        assert caught.value.errno == errno.EINVAL
        assert caught.value.__notes__ == ["while setting the MTU of fl0 to 10000000"]

    with_netlink(body)


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
