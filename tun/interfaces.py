"""The machine's network interfaces, their addresses, and the default route's."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import Any, Literal

from flannelette.tun.netlink import doing, dump

RT_TABLE_MAIN = 254
RTN_UNICAST = 1
IFF_UP = 0x1
_IFA_F_SECONDARY = 0x01  # for IPv6 the same bit says temporary
_IFA_F_DADFAILED = 0x08
_IFA_F_DEPRECATED = 0x20
_IFA_F_TENTATIVE = 0x40
_IFA_F_PERMANENT = 0x80
_UNFIT = _IFA_F_DADFAILED | _IFA_F_DEPRECATED | _IFA_F_TENTATIVE
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface of this machine."""

    index: int
    name: str
    mtu: int
    """Bytes."""
    up: bool
    addresses: tuple[IPv4Interface, ...]
    """The usable ones, best first (I5)."""
    unusable: tuple[IPv4Interface, ...] = ()
    """Loopback and deprecated addresses: for lookups by address only."""
    addresses6: tuple[IPv6Interface, ...] = ()
    unusable6: tuple[IPv6Interface, ...] = ()
    """Tentative ones and duplicates too."""


# What follows runs in the thread of Worker; `ip` is its IPRoute, which has no types.


def list_interfaces(ip: Any) -> list[Interface]:
    """All of this network namespace, by index. Raises OSError."""
    with doing("listing the interfaces"):
        links = dump(ip.link)
        addresses = dump(ip.addr, family=socket.AF_UNSPEC)
    return sorted(
        (
            _interface(link, [a for a in addresses if a["index"] == link["index"]])
            for link in links
        ),
        key=lambda interface: interface.index,
    )


def _interface(link: Any, messages: Iterable[Any]) -> Interface:
    # Sorting is stable: the kernel's order among equals.
    ranked = [(address_of(m), _usable(m)) for m in sorted(messages, key=_rank)]
    v4 = [(a, usable) for a, usable in ranked if isinstance(a, IPv4Interface)]
    v6 = [(a, usable) for a, usable in ranked if isinstance(a, IPv6Interface)]
    return Interface(
        index=link["index"],
        name=link.get("ifname"),
        mtu=link.get("mtu"),
        up=bool(link["flags"] & IFF_UP),
        addresses=tuple(address for address, usable in v4 if usable),
        unusable=tuple(address for address, usable in v4 if not usable),
        addresses6=tuple(address for address, usable in v6 if usable),
        unusable6=tuple(address for address, usable in v6 if not usable),
    )


def address_of(message: Any) -> IPv4Interface | IPv6Interface:
    """The address that an RTM_NEWADDR message is about, with its prefix length."""
    # IFA_ADDRESS is the other end on a point-to-point link, where IFA_LOCAL is there.
    text = message.get("local") or message.get("address")
    if message["family"] == socket.AF_INET6:
        return IPv6Interface((text, message["prefixlen"]))
    return IPv4Interface((text, message["prefixlen"]))


def _usable(message: Any) -> bool:
    """I5: global or link-local unicast, and not deprecated. IPv6: nobody else's."""
    address = address_of(message).ip
    return not (
        message.get("flags") & _UNFIT
        or address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address == IPv4Address("255.255.255.255")
    )


def _rank(message: Any) -> tuple[bool, bool, bool]:
    """I5: global before link-local, permanent before dynamic, primary first; IPv6:
    temporary last."""
    flags = message.get("flags")
    return (
        address_of(message).ip.is_link_local,
        not flags & _IFA_F_PERMANENT,
        bool(flags & _IFA_F_SECONDARY),
    )


def default_interface(ip: Any, version: Literal[4, 6]) -> str | None:
    """The interface of the main table's first default route, if any (I1)."""
    family = _FAMILIES[version]
    with doing(f"looking for the IPv{version} default route"):
        for route in dump(ip.route, family=family, table=RT_TABLE_MAIN):
            if route["dst_len"] == 0 and route["type"] == RTN_UNICAST:
                hops = route.get("multipath") or [{"oif": route.get("oif")}]
                (link,) = ip.link("get", index=hops[0]["oif"])
                return str(link.get("ifname"))
    return None
