"""The interfaces of a machine that nobody has, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

from flannelette.control import config, interface
from flannelette.control.interface import External, Machine
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
