"""Steps that bring a device to its desired state: each names the repairs it has made,
as soon as it has made them, for a later one may fail.

They run in the thread of Worker; `ip` is its IPRoute, which has no types.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path
from typing import Any

from flannelette.tun.interfaces import IFF_UP, address_of
from flannelette.tun.netlink import doing, dump

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_IFA_F_NODAD = 0x02
_MADE_BEFORE = "repairs"


@contextmanager
def telling(repairs: Sequence[str]) -> Iterator[None]:
    """Let an OSError tell of these repairs (made_before)."""
    try:
        yield
    except OSError as error:
        vars(error)[_MADE_BEFORE] = repairs
        raise


def made_before(error: OSError) -> Sequence[str]:
    """The repairs that were made before this came up, if it tells."""
    made: Sequence[str] = vars(error).get(_MADE_BEFORE, ())
    return made


def family_of(thing: Address | Network | IPv4Interface | IPv6Interface) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET if thing.version == 4 else socket.AF_INET6


def repair_mtu(ip: Any, link: Any, mtu: int) -> Iterator[str]:
    now, name = link.get("mtu"), link.get("ifname")
    if now != mtu:
        with doing(f"setting the MTU of {name} to {mtu}"):
            ip.link("set", index=link["index"], mtu=mtu)
        yield f"MTU changed from {now} to {mtu}"


def repair_up(ip: Any, link: Any) -> Iterator[str]:
    if not link["flags"] & IFF_UP:
        with doing(f"bringing {link.get('ifname')} up"):
            ip.link("set", index=link["index"], state="up")
        yield "link brought up"


def repair_setting(
    version: int, name: str, setting: str, value: str, repair: str
) -> Iterator[str]:
    """Write a device's sysctl of one IP version, such as accept_ra.

    Best effort: /proc/sys may be read-only, and a kernel without IPv6 lacks some."""
    path = Path(f"/proc/sys/net/ipv{version}/conf/{name}/{setting}")
    try:
        if path.read_text().strip() == value:
            return
        path.write_text(value)
    except OSError:
        return
    yield repair


def switch_ipv6_on(name: str) -> Iterator[str]:
    """Where the machine's default is off."""
    yield from repair_setting(6, name, "disable_ipv6", "0", "IPv6 switched on")


def ignore_routers(name: str) -> Iterator[str]:
    """V9."""
    repair = "router advertisements ignored"
    yield from repair_setting(6, name, "accept_ra", "0", repair)


def repair_address(
    ip: Any, index: int, desired: IPv4Interface | IPv6Interface
) -> Iterator[str]:
    """Let the device have this address and no other of its IP version, but for
    link-local IPv6 ones (V10).

    The new address comes first: without any, a device loses its routes."""
    family = family_of(desired)
    with doing("listing the device's addresses"):
        there = dump(ip.addr, family=family, index=index)
    strays = [message for message in there if not _is_exactly(message, desired)]
    if len(strays) == len(there):
        # Nobody else can have it: there is no need to ask around first (RFC 4862).
        flags = {"flags": _IFA_F_NODAD} if desired.version == 6 else {}
        try:
            with doing(f"adding the address {desired}"):
                ip.addr(
                    "add",
                    index=index,
                    family=family,
                    address=str(desired.ip),
                    prefixlen=desired.network.prefixlen,
                    **flags,
                )
        except OSError as error:
            if desired.version == 6:
                error.add_note("IPv6 needs disable_ipv6=0 and an MTU of 1280 bytes")
            raise
        yield f"address {desired} added"
    for message in strays:
        stray = address_of(message)
        if stray.version == 6 and stray.is_link_local:
            continue
        # A secondary address goes with its primary one.
        with doing(f"removing the address {stray}", errno.EADDRNOTAVAIL):
            ip.addr(
                "del",
                index=index,
                family=family,
                local=message.get("local"),
                address=message.get("address"),
                prefixlen=message["prefixlen"],
            )
        yield f"address {stray} removed"


def _is_exactly(message: Any, address: IPv4Interface | IPv6Interface) -> bool:
    """Is it this address, and no point-to-point one?"""
    return address_of(message) == address and message.get("address") == str(address.ip)
