"""The choice of the external interface in dual stack: flannel-behaviour.md I1 to I7."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from flannelette.control.errors import HostError
from flannelette.control.interface import External, Machine
from flannelette.tun.interfaces import Interface
from flannelette.tun.routes import Exit
from tests.helpers.externals import ALL, DUAL, ETH0, ETH06, ETH16, external, select


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
    here, nowhere = "2001:db8:1::1", "2001:db8:9::9"
    chosen = select(Machine(ALL, "eth0", "eth1"), public_ipv6=nowhere)
    assert chosen == external(ETH0, "192.0.2.1")
    chosen = select(Machine(DUAL), ("2001:db8:1::1",), public_ipv6=nowhere)
    assert chosen == external(ETH16, "198.51.100.1")
    # In place of a default route: the network may turn out to be dual-stack.
    chosen = select(Machine(DUAL), public_ipv6=here)
    assert chosen == external(ETH16, "198.51.100.1")
    chosen = select(Machine(DUAL, "eth0"), public_ipv6=here)
    assert chosen == external(ETH06, "192.0.2.1")
