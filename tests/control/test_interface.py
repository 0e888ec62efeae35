"""The choice of the external interface: flannel-behaviour.md I1 to I7, T38."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Any

import pytest

from flannelette.control import config, interface
from flannelette.control.errors import HostError
from flannelette.control.interface import External, Machine
from flannelette.tun.interfaces import Interface
from flannelette.tun.link import Netlink
from flannelette.tun.routes import Exit
from tests.helpers.freshnet import with_netlink
from tests.helpers.ns import needs_namespaces

LO = Interface(1, "lo", 65536, True, (), (IPv4Interface("127.0.0.1/8"),))
ETH0 = Interface(
    2,
    "eth0",
    1500,
    True,
    (IPv4Interface("192.0.2.1/24"), IPv4Interface("192.0.2.2/24")),
    (IPv4Interface("192.0.2.3/24"),),
)
ETH1 = Interface(3, "eth1", 9000, False, (IPv4Interface("198.51.100.1/24"),))
BARE = Interface(4, "bare0", 1500, True, ())
FLAT = Interface(5, "flat0", 0, True, (IPv4Interface("203.0.113.1/24"),))
ALL = (LO, ETH0, ETH1, BARE, FLAT)


def select(
    machine: Machine, iface: Sequence[str] = (), dual: bool = False, **flags: str | None
) -> External:
    argv = [f"--iface={value}" for value in iface]
    for name, value in flags.items():
        if value is not None:
            argv.append(f"--{name.replace('_', '-')}={value}")
    return interface.select(machine, config.parse(argv, {}), dual=dual)


def external(interface: Interface, address: str, public: str = "") -> External:
    return External(
        interface.name,
        interface.index,
        interface.mtu,
        IPv4Address(address),
        IPv4Address(public or address),
    )


@pytest.mark.parametrize(
    ("default", "iface", "public_ip", "expected"),
    [
        # I1: the default route's interface, with its best address (I5).
        ("eth0", (), None, external(ETH0, "192.0.2.1")),
        # I1: a public IP names its owner, whatever the default route says.
        ("eth0", (), "198.51.100.1", external(ETH1, "198.51.100.1")),
        (None, (), "192.0.2.2", external(ETH0, "192.0.2.2")),
        # I2: by name and by address; the interface may be down (I7).
        ("eth0", ("eth1",), None, external(ETH1, "198.51.100.1")),
        (None, ("192.0.2.2",), None, external(ETH0, "192.0.2.2")),
        # I2: what is not found is passed over.
        (None, ("eth9", "bare0", "1.2.3.4", "eth0"), None, external(ETH0, "192.0.2.1")),
        (None, ("eth1", "eth0"), None, external(ETH1, "198.51.100.1")),
        # An address that must be asked for: loopback, deprecated.
        (None, ("127.0.0.1",), None, external(LO, "127.0.0.1")),
        (None, ("192.0.2.3",), None, external(ETH0, "192.0.2.3")),
        # I7: the public IP may be another machine's, if --iface is given.
        ("eth0", ("eth1",), "9.9.9.9", external(ETH1, "198.51.100.1", "9.9.9.9")),
    ],
)
def test_choice(
    default: str | None,
    iface: tuple[str, ...],
    public_ip: str | None,
    expected: External,
) -> None:
    assert select(Machine(ALL, default), iface, public_ip=public_ip) == expected


@pytest.mark.parametrize(
    ("default", "iface", "public_ip", "message"),
    [
        (None, (), None, "no default route: name the interface with --iface"),
        ("bare0", (), None, "interface bare0 has no usable IPv4 address"),
        ("gone0", (), None, "there is no interface gone0"),
        (None, ("eth9",), None, "there is no interface eth9"),
        (None, ("lo",), None, "interface lo has no usable IPv4 address"),
        (None, ("1.2.3.4",), None, "no interface has the address 1.2.3.4"),
        (
            None,
            ("eth9", "1.2.3.4"),
            None,
            "there is no interface eth9; no interface has the address 1.2.3.4",
        ),
        (
            "eth0",
            (),
            "9.9.9.9",
            "public IP: no interface has the address 9.9.9.9; if the address is "
            "translated, name the interface with --iface",
        ),
        (None, ("flat0",), None, "interface flat0 has no MTU"),  # I7
    ],
)
def test_what_is_missing_is_said(
    default: str | None, iface: tuple[str, ...], public_ip: str | None, message: str
) -> None:
    with pytest.raises(HostError) as caught:
        select(Machine(ALL, default), iface, public_ip=public_ip)
    assert str(caught.value) == message


def test_an_interface_that_is_passed_over_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """I2."""
    with caplog.at_level(logging.INFO):
        select(Machine(ALL), ("eth9", "eth0"))
    assert caplog.messages == [
        "passed over: flag=--iface reason='there is no interface eth9'"
    ]


# ---- regular expressions, and what can be reached ------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        # I3: unanchored, on addresses: that one is taken, not the best.
        ("51", external(ETH1, "198.51.100.1")),
        (r"192\.0\.2\.[23]", external(ETH0, "192.0.2.2")),
        (".", external(ETH0, "192.0.2.1")),
        # Addresses of all interfaces before any name.
        ("eth0|^198", external(ETH1, "198.51.100.1")),
        # On names, the first one.
        ("^eth", external(ETH0, "192.0.2.1")),
        ("(?i)H1", external(ETH1, "198.51.100.1")),
    ],
)
def test_a_regular_expression_i3(pattern: str, expected: External) -> None:
    assert select(Machine(ALL, "eth1"), iface_regex=pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("^wl", "no interface matches the regular expression '^wl'"),
        # I5: neither loopback nor deprecated addresses are usable.
        ("^127", "no interface matches the regular expression '^127'"),
        (r"2\.3$", r"no interface matches the regular expression '2\\.3$'"),
        # The first whose name matches is it, even if it will not do.
        ("^(bare|eth)0", "interface bare0 has no usable IPv4 address"),
    ],
)
def test_a_regular_expression_that_finds_none_i3(pattern: str, message: str) -> None:
    with pytest.raises(HostError) as caught:
        select(Machine((BARE, *ALL), "eth0"), iface_regex=pattern)
    assert str(caught.value) == message


def test_what_can_be_reached_names_the_exit_and_its_address_i4() -> None:
    reached = Machine(ALL, "eth1", exit=Exit("eth0", IPv4Address("192.0.2.2")))
    assert select(reached, iface_can_reach="203.0.113.9") == external(ETH0, "192.0.2.2")
    # Over IPv6, in a network without: the best of IPv4.
    reached = Machine(DUAL, "eth1", exit=Exit("eth0", IPv6Address("2001:db8::2")))
    assert select(reached, iface_can_reach="2001:db8:9::9") == external(
        ETH06, "192.0.2.1"
    )
    reached = Machine(ALL, "eth1", exit=Exit("eth0", None))
    assert select(reached, iface_can_reach="203.0.113.9") == external(ETH0, "192.0.2.1")


def test_what_cannot_be_reached_is_said_i4() -> None:
    with pytest.raises(HostError) as caught:
        select(Machine(ALL, "eth1"), iface_can_reach="203.0.113.9")
    assert str(caught.value) == "packets to 203.0.113.9 do not leave this machine"


def test_names_go_before_expressions_and_these_before_what_can_be_reached_i2(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever their order on the command line, and those that fail are passed over."""
    exit = Exit("eth1", IPv4Address("198.51.100.1"))
    argv = ["--iface-can-reach=9.9.9.9", "--iface-regex=^192", "--iface-regex=^198"]

    def chosen(*more: str, of: Machine) -> str:
        return interface.select(of, config.parse([*argv, *more], {})).name

    assert chosen("--iface=flat9", "--iface=eth1", of=Machine(ALL, exit=exit)) == "eth1"
    assert chosen("--iface=flat9", of=Machine(ALL, exit=exit)) == "eth0"
    assert chosen(of=Machine((ETH1,), exit=exit)) == "eth1"
    caplog.clear()
    exit, odd = replace(exit, interface="odd0"), replace(ETH1, name="odd0")
    odd = replace(odd, addresses=(IPv4Interface("203.0.113.1/24"),))
    assert chosen("--iface=flat9", of=Machine((odd,), exit=exit)) == "odd0"
    assert caplog.messages == [
        "passed over: flag=--iface reason='there is no interface flat9'",
        'passed over: flag=--iface-regex reason="no interface matches the regular '
        "expression '^192'\"",
        'passed over: flag=--iface-regex reason="no interface matches the regular '
        "expression '^198'\"",
    ]
    with pytest.raises(HostError) as caught:
        chosen("--iface=flat9", of=Machine((odd,)))
    assert str(caught.value) == (
        "there is no interface flat9; "
        "no interface matches the regular expression '^192'; "
        "no interface matches the regular expression '^198'; "
        "packets to 9.9.9.9 do not leave this machine"
    )


def test_any_of_the_flags_goes_before_the_public_ip_i1_i7() -> None:
    exit = Exit("eth1", IPv4Address("198.51.100.1"))
    expected = external(ETH1, "198.51.100.1", "192.0.2.1")
    machine = Machine(ALL, "eth0", exit=exit)
    assert select(machine, public_ip="192.0.2.1", iface_regex="eth1") == expected
    chosen = select(machine, public_ip="192.0.2.1", iface_can_reach="198.51.100.9")
    assert chosen == expected


# ---- dual-stack ----------------------------------------------------------------------

LO6 = replace(LO, unusable6=(IPv6Interface("::1/128"),))
ETH06 = replace(
    ETH0,
    addresses6=(IPv6Interface("2001:db8::1/64"), IPv6Interface("2001:db8::2/64")),
    unusable6=(IPv6Interface("2001:db8::3/64"),),
)
ETH16 = replace(ETH1, addresses6=(IPv6Interface("2001:db8:1::1/64"),))
ONLY6 = Interface(6, "six0", 1500, True, (), (), (IPv6Interface("2001:db8:6::1/64"),))
FLAT4 = replace(FLAT, mtu=1500)
DUAL = (LO6, ETH06, ETH16, ONLY6, FLAT4)


def external6(
    interface: Interface, address: str, address6: str, public6: str = ""
) -> External:
    return replace(
        external(interface, address),
        address6=IPv6Address(address6),
        public_ipv6=IPv6Address(public6 or address6),
    )


def select6(
    default: str | None = None,
    default6: str | None = None,
    exit: Exit | None = None,
    iface: tuple[str, ...] = (),
    **flags: str,
) -> External:
    machine = Machine(DUAL, default, default6, exit)
    return select(machine, iface, dual=True, **flags)


ETH0_BEST = external6(ETH06, "192.0.2.1", "2001:db8::1")
ETH1_BEST = external6(ETH16, "198.51.100.1", "2001:db8:1::1")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # I1: both default routes' interface, with the best addresses (I5).
        ({"default": "eth0", "default6": "eth0"}, ETH0_BEST),
        # I1: who owns the public IP; else who owns the public IPv6.
        ({"default": "eth0", "public_ip": "198.51.100.1"}, ETH1_BEST),
        (
            {"public_ipv6": "2001:db8::2"},
            external6(ETH06, "192.0.2.1", "2001:db8::2"),
        ),
        (
            {"public_ip": "192.0.2.2", "public_ipv6": "2001:db8::2"},
            external6(ETH06, "192.0.2.2", "2001:db8::2"),
        ),
        # I2: by name, and by an address of either IP version.
        ({"iface": ("eth1",)}, ETH1_BEST),
        ({"iface": ("198.51.100.1",)}, ETH1_BEST),
        ({"iface": ("2001:DB8:1:0::1",)}, ETH1_BEST),
        (
            {"iface": ("2001:db8::3",)},
            external6(ETH06, "192.0.2.1", "2001:db8::3"),
        ),
        # I2: what has not both is passed over.
        ({"iface": ("six0", "flat0", "lo", "2001:db8:6::1", "eth1")}, ETH1_BEST),
        # I6: the public IPv6 goes before what the interface has else.
        (
            {"iface": ("192.0.2.2",), "public_ipv6": "2001:db8::2"},
            external6(ETH06, "192.0.2.2", "2001:db8::2"),
        ),
        # I3: an address of either IP version has to match; else the name.
        ({"iface_regex": "0+[.]1|:1:"}, ETH1_BEST),
        (
            {"iface_regex": r"[.]2\.2|:2$"},
            external6(ETH06, "192.0.2.2", "2001:db8::2"),
        ),
        ({"iface_regex": "^198|h1"}, ETH1_BEST),
        ({"iface_regex": "192[.]0[.]2[.]2|th1$"}, ETH1_BEST),
        # I4: of the other IP version the best address.
        (
            {
                "exit": Exit("eth0", IPv6Address("2001:db8::2")),
                "iface_can_reach": "2001:db8:9::9",
            },
            external6(ETH06, "192.0.2.1", "2001:db8::2"),
        ),
        (
            {
                "exit": Exit("eth0", IPv4Address("192.0.2.2")),
                "iface_can_reach": "203.0.113.9",
            },
            external6(ETH06, "192.0.2.2", "2001:db8::1"),
        ),
        # I7: with --iface by name it may be another machine's.
        (
            {"iface": ("eth0",), "public_ipv6": "2001:db8:9::9"},
            external6(ETH06, "192.0.2.1", "2001:db8::1", "2001:db8:9::9"),
        ),
    ],
)
def test_dual_stack_choice(arguments: dict[str, Any], expected: External) -> None:
    assert select6(**arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"default6": "eth0"}, "no default route: name the interface with --iface"),
        (
            {"default": "eth0"},
            "no IPv6 default route: name the interface with --iface",
        ),
        (
            {"default": "eth0", "default6": "eth1"},
            "the default routes of IPv4 and IPv6 are on different interfaces, "
            "eth0 and eth1: name one with --iface",
        ),
        (
            {"default": "flat0", "default6": "flat0"},
            "interface flat0 has no usable IPv6 address",
        ),
        ({"iface": ("six0",)}, "interface six0 has no usable IPv4 address"),
        (
            {"iface": ("2001:db8:6::1",)},
            "interface six0 has no usable IPv4 address",
        ),
        (
            {"public_ipv6": "2001:db8:9::9"},
            "public IPv6: no interface has the address 2001:db8:9::9; if the "
            "address is translated, name the interface with --iface",
        ),
        (
            {"iface": ("192.0.2.1",), "public_ipv6": "2001:db8:1::1"},
            "interface eth0 has not the public IPv6 2001:db8:1::1",
        ),
    ],
)
def test_what_dual_stack_misses_is_said(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(HostError) as caught:
        select6(**arguments)
    assert str(caught.value) == message


def test_ipv4_alone_asks_for_no_ipv6() -> None:
    """But an --iface may be an IPv6 address (I2)."""
    nowhere = "2001:db8:9::9"
    chosen = select(Machine(ALL, "eth0", "eth1"), public_ipv6=nowhere)
    assert chosen == external(ETH0, "192.0.2.1")
    chosen = select(Machine(DUAL), ("2001:db8:1::1",), public_ipv6=nowhere)
    assert chosen == external(ETH16, "198.51.100.1")


# ---- real interfaces -----------------------------------------------------------------

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
