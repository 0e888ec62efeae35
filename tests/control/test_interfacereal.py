"""The choice among real interfaces, with routes that the kernel decides: I1 to I7."""

from __future__ import annotations

import logging

import pytest

from flannelette.control import config, interface
from flannelette.control.errors import HostError
from flannelette.control.interface import External
from flannelette.tun.link import Netlink
from tests.helpers.freshnet import with_netlink
from tests.helpers.ns import needs_namespaces

MACHINE = (
    "link set lo up",
    "link add name eth0 type veth peer name wire0",
    "link add name eth1 mtu 1400 type veth peer name wire1",
    *(f"link set {name} up addrgenmode none" for name in ("eth0", "eth1")),
    *(f"link set {name} up addrgenmode none" for name in ("wire0", "wire1")),
    "address add 192.0.2.9/24 dev eth0 preferred_lft 0",
    "address add 192.0.2.1/24 dev eth0",
    "address add 192.0.2.2/24 dev eth0",
    "address add 2001:db8::1/64 dev eth0 nodad",
    "address add 2001:db8::2/64 dev eth0 nodad valid_lft 9999 preferred_lft 9999",
    "address add 198.51.100.1/24 dev eth1",
    "address add 2001:db8:1::1/64 dev eth1 nodad",
    "address add 203.0.113.1/24 dev wire1",
    "route add default via 198.51.100.254 dev eth1",
    "route add default via 2001:db8:1::fe dev eth1",
    "route add 10.9.0.0/16 via 192.0.2.254 dev eth0 src 192.0.2.2",
    "route add 2001:db8:9::/48 via 2001:db8::fe dev eth0 src 2001:db8::2",
    "route add unreachable 10.8.0.0/16",
)
REAL = (
    # flags, then name, address and public IP; in dual stack those of IPv6 too
    ("", "eth1 198.51.100.1 198.51.100.1"),  # I1
    ("--public-ip=192.0.2.2", "eth0 192.0.2.2 192.0.2.2"),
    ("--public-ip=192.0.2.9", "eth0 192.0.2.9 192.0.2.9"),
    ("--iface=nope0 --iface=192.0.2.1", "eth0 192.0.2.1 192.0.2.1"),  # I2
    ("--iface=eth0 --public-ip=9.9.9.9", "eth0 192.0.2.1 9.9.9.9"),  # I5, I7
    ("--iface-regex=^192.*[29]$", "eth0 192.0.2.2 192.0.2.2"),  # I3, I5
    ("--iface-regex=^eth", "eth0 192.0.2.1 192.0.2.1"),
    ("--iface-regex=^wlan --iface-regex=ire1", "wire1 203.0.113.1 203.0.113.1"),
    ("--iface-can-reach=10.9.9.9", "eth0 192.0.2.2 192.0.2.2"),  # I4
    ("--iface-can-reach=2001:db8:9::9", "eth0 192.0.2.1 192.0.2.1"),
    ("--iface-can-reach=9.9.9.9", "eth1 198.51.100.1 198.51.100.1"),
    ("--iface-can-reach=10.9.9.9 --iface=eth1", "eth1 198.51.100.1 198.51.100.1"),
)
REAL_DUAL = (
    ("", "eth1 198.51.100.1 198.51.100.1 2001:db8:1::1 2001:db8:1::1"),  # I1
    (
        "--public-ipv6=2001:db8::2",
        "eth0 192.0.2.1 192.0.2.1 2001:db8::2 2001:db8::2",
    ),
    (
        "--iface=wire1 --iface-regex=2$",  # wire1 has no IPv6; I3: both have to match
        "eth0 192.0.2.2 192.0.2.2 2001:db8::2 2001:db8::2",
    ),
    (
        "--iface-can-reach=10.9.9.9",  # I4, I5
        "eth0 192.0.2.2 192.0.2.2 2001:db8::1 2001:db8::1",
    ),
    (
        "--iface-can-reach=2001:db8:9::9",
        "eth0 192.0.2.1 192.0.2.1 2001:db8::2 2001:db8::2",
    ),
    (
        "--iface=192.0.2.2 --public-ipv6=2001:db8::2",  # I6
        "eth0 192.0.2.2 192.0.2.2 2001:db8::2 2001:db8::2",
    ),
)


@needs_namespaces
def test_the_choice_among_real_interfaces() -> None:
    async def body(netlink: Netlink) -> None:
        async def chosen(flags: str, dual: bool) -> External:
            settings = config.parse(flags.split(), {})
            machine = await interface.look(netlink, settings, dual=dual)
            return interface.select(machine, settings, dual=dual)

        for dual, table in ((False, REAL), (True, REAL_DUAL)):
            for flags, expected in table:
                it = await chosen(flags, dual)
                six = (it.address6, it.public_ipv6) if dual else ()
                said = " ".join(map(str, (it.name, it.address, it.public_ip, *six)))
                assert said == expected, flags
        assert (await chosen("", False)).mtu == 1400  # I7
        for reach in ("10.8.0.1", "192.0.2.1", "::1", "2001:db8::1"):
            with pytest.raises(HostError, match=f"packets to {reach} do not leave"):
                await chosen(f"--iface-can-reach={reach}", True)

    with_netlink(body, MACHINE)


@needs_namespaces
def test_in_dual_stack_nothing_is_told_twice(caplog: pytest.LogCaptureFixture) -> None:
    """It is chosen before the network is known, and then again with its IPv6."""
    eth0 = "name=eth0 address=192.0.2.1 public_ip=192.0.2.1 mtu=1500"
    wire1 = "name=wire1 address=203.0.113.1 public_ip=203.0.113.1 mtu=1500"
    eth0_six = "its IPv6: address=2001:db8::1 public_ip=2001:db8::1"
    over = "passed over: flag=--iface reason={!r}".format
    there_is_none = over("there is no interface nope0")
    told = [there_is_none, f"external interface: {eth0}", eth0_six]
    changed = [
        there_is_none,
        f"external interface: {wire1}",
        over("interface wire1 has no usable IPv6 address"),
        f"external interface: {eth0}",
        eth0_six,
    ]

    async def body(netlink: Netlink) -> None:
        for names, expected in (
            (("nope0", "eth0"), told),
            (("nope0", "wire1", "eth0"), changed),
        ):
            settings = config.parse([f"--iface={name}" for name in names], {})
            with caplog.at_level(logging.INFO, "flannelette"):
                before = await interface.choose(netlink, settings)
                await interface.choose_dual(netlink, settings, before)
            assert caplog.messages == expected
            caplog.clear()

    with_netlink(body, MACHINE)
