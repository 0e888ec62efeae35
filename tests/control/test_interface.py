"""The choice of the external interface: flannel-behaviour.md I1 to I5, I7, T38."""

from __future__ import annotations

import logging
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address

import pytest

from flannelette.control import config, interface
from flannelette.control.errors import HostError
from flannelette.control.interface import External, Machine
from flannelette.tun.routes import Exit
from tests.helpers.externals import (
    ALL,
    BARE,
    DUAL,
    ETH0,
    ETH06,
    ETH1,
    LO,
    external,
    select,
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
