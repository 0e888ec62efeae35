"""The choice of the external interface: flannel-behaviour.md I1, I2, I5, I7, T38."""

from __future__ import annotations

import logging
from ipaddress import IPv4Address, IPv4Interface

import pytest

from flannelette.control.errors import HostError
from flannelette.control.interface import External, select
from flannelette.tun.interfaces import Interface

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
    address = None if public_ip is None else IPv4Address(public_ip)
    assert select(ALL, default, iface, address) == expected


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
    address = None if public_ip is None else IPv4Address(public_ip)
    with pytest.raises(HostError) as caught:
        select(ALL, default, iface, address)
    assert str(caught.value) == message


def test_an_interface_that_is_passed_over_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """I2."""
    with caplog.at_level(logging.INFO):
        select(ALL, None, ("eth9", "eth0"), None)
    assert caplog.messages == [
        "passed over an --iface: reason='there is no interface eth9'"
    ]
