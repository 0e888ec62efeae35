"""Network interfaces: what there is, and how our device should be.

A device is brought to its desired state, not set up once: reconcile() compares and
repairs, and costs three small dumps when there is nothing to do.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from pyroute2 import NetlinkError

from flannelette.tun.netlink import Worker, doing, dump

_IFF_UP = 0x1
_IFA_F_SECONDARY = 0x01  # for IPv6 the same bit says temporary
_IFA_F_DEPRECATED = 0x20
_IFA_F_PERMANENT = 0x80
_ADDR_GEN_NONE = 1  # IN6_ADDR_GEN_MODE_NONE
_RT_TABLE_MAIN = 254
_RT_SCOPE_UNIVERSE = 0
_RTN_UNICAST = 1
_RTPROT_BOOT = 3


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


@dataclass(frozen=True, slots=True)
class LinkState:
    """How a device of ours should be (U4)."""

    name: str
    address: IPv4Interface
    """Its one IPv4 address: the lease's base, /32."""
    mtu: int
    """Bytes."""
    routes: tuple[IPv4Network, ...]
    """What is reached through it: the overlay's Network."""


class Netlink:
    """What we ask of the kernel. Call close() when done.

    Every call may raise OSError, with the kernel's errno and a note."""

    def __init__(self) -> None:
        self._worker = Worker()

    async def close(self) -> None:
        """End the thread and close its socket."""
        await self._worker.close()

    async def interfaces(self) -> list[Interface]:
        """All interfaces of this network namespace, by index."""
        return await self._worker.call(_interfaces)

    async def default_interface(self) -> str | None:
        """The interface of the main table's first default route, if any (I1)."""
        return await self._worker.call(_default_interface)

    async def reconcile(self, desired: LinkState) -> list[str]:
        """Bring a device to its desired state; names each repair, [] if none was due.

        Routes and IPv6 addresses that others have added stay. Raises OSError: ENODEV
        when the device is gone, EEXIST when another device has our route."""
        return await self._worker.call(_reconcile, desired)


# What follows runs in the thread; `ip` is its IPRoute, which has no types.


def _interfaces(ip: Any) -> list[Interface]:
    with doing("listing the interfaces"):
        links = dump(ip.link)
        addresses = dump(ip.addr, family=socket.AF_INET)
    return sorted(
        (
            _interface(link, [a for a in addresses if a["index"] == link["index"]])
            for link in links
        ),
        key=lambda interface: interface.index,
    )


def _interface(link: Any, addresses: Iterable[Any]) -> Interface:
    ranked = sorted(addresses, key=_rank)  # stable: the kernel's order among equals
    return Interface(
        index=link["index"],
        name=link.get("ifname"),
        mtu=link.get("mtu"),
        up=bool(link["flags"] & _IFF_UP),
        addresses=tuple(_address(a) for a in ranked if _usable(a)),
        unusable=tuple(_address(a) for a in ranked if not _usable(a)),
    )


def _address(message: Any) -> IPv4Interface:
    # Not IFA_ADDRESS: on a point-to-point link that is the other end.
    return IPv4Interface((message.get("local"), message["prefixlen"]))


def _usable(message: Any) -> bool:
    """I5: global or link-local unicast, and not deprecated."""
    address = _address(message).ip
    return not (
        message.get("flags") & _IFA_F_DEPRECATED
        or address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address == IPv4Address("255.255.255.255")
    )


def _rank(message: Any) -> tuple[bool, bool, bool]:
    """I5: global before link-local, permanent before dynamic, primary first."""
    flags = message.get("flags")
    return (
        _address(message).ip.is_link_local,
        not flags & _IFA_F_PERMANENT,
        bool(flags & _IFA_F_SECONDARY),
    )


def _default_interface(ip: Any) -> str | None:
    with doing("looking for the default route"):
        routes = dump(ip.route, family=socket.AF_INET, table=_RT_TABLE_MAIN)
        for route in routes:
            if route["dst_len"] == 0 and route["type"] == _RTN_UNICAST:
                hops = route.get("multipath") or [{"oif": route.get("oif")}]
                (link,) = ip.link("get", index=hops[0]["oif"])
                return str(link.get("ifname"))
    return None


def _reconcile(ip: Any, desired: LinkState) -> list[str]:
    with doing(f"looking at the device {desired.name}"):
        (link,) = ip.link("get", ifname=desired.name)
    # Addresses before the way up and routes after it: without an address generation
    # mode IPv6 stays silent only if it is set first, and a device that is down
    # takes no routes.
    return [
        *_reconcile_mtu(ip, link, desired),
        *_reconcile_ipv6(ip, link),
        *_reconcile_accept_local(desired.name),
        *_reconcile_address(ip, link["index"], desired.address),
        *_reconcile_up(ip, link),
        *(
            repair
            for route in desired.routes
            for repair in _reconcile_route(ip, link["index"], route)
        ),
    ]


def _reconcile_mtu(ip: Any, link: Any, desired: LinkState) -> Iterator[str]:
    now = link.get("mtu")
    if now != desired.mtu:
        with doing(f"setting the MTU of {desired.name} to {desired.mtu}"):
            ip.link("set", index=link["index"], mtu=desired.mtu)
        yield f"MTU changed from {now} to {desired.mtu}"


def _reconcile_ipv6(ip: Any, link: Any) -> Iterator[str]:
    """No link-local address: else the kernel solicits routers through the TUN (U14).

    Best effort: a kernel without IPv6 has nothing to set, and may say so."""
    mode = link.get_nested("IFLA_AF_SPEC", "AF_INET6", "IFLA_INET6_ADDR_GEN_MODE")
    if mode is None or mode == _ADDR_GEN_NONE:
        return
    setting = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_NONE)]}
    spec = {"attrs": [("AF_INET6", setting)]}
    try:
        ip.link("set", index=link["index"], IFLA_AF_SPEC=spec)
    except NetlinkError:
        return
    yield "IPv6 address generation switched off"


def _reconcile_accept_local(name: str) -> Iterator[str]:
    """Let in what comes from an address of our own, as our ICMP errors do.

    Their source is the TUN's address (U17), and the kernel drops such a packet on
    arrival unless told otherwise: flanneld's errors never reach a pod.

    Best effort: where /proc/sys is read-only the errors are lost, and nothing else."""
    setting = Path(f"/proc/sys/net/ipv4/conf/{name}/accept_local")
    try:
        if setting.read_text().strip() == "1":
            return
        setting.write_text("1")
    except OSError:
        return
    yield "packets from our own address let in"


def _reconcile_address(ip: Any, index: int, desired: IPv4Interface) -> Iterator[str]:
    """The new address comes first: without any, a device loses its routes."""
    with doing("listing the device's addresses"):
        there = dump(ip.addr, family=socket.AF_INET, index=index)
    strays = [message for message in there if not _is_exactly(message, desired)]
    if len(strays) == len(there):
        with doing(f"adding the address {desired}"):
            ip.addr(
                "add",
                index=index,
                family=socket.AF_INET,
                address=str(desired.ip),
                prefixlen=desired.network.prefixlen,
            )
        yield f"address {desired} added"
    for message in strays:
        stray = _address(message)
        # A secondary address goes with its primary one.
        with doing(f"removing the address {stray}", errno.EADDRNOTAVAIL):
            ip.addr(
                "del",
                index=index,
                family=socket.AF_INET,
                local=message.get("local"),
                address=message.get("address"),
                prefixlen=message["prefixlen"],
            )
        yield f"address {stray} removed"


def _is_exactly(message: Any, address: IPv4Interface) -> bool:
    """Is it this address, and no point-to-point one?"""
    return _address(message) == address and message.get("address") == str(address.ip)


def _reconcile_up(ip: Any, link: Any) -> Iterator[str]:
    if not link["flags"] & _IFF_UP:
        with doing(f"bringing {link.get('ifname')} up"):
            ip.link("set", index=link["index"], state="up")
        yield "link brought up"


def _reconcile_route(ip: Any, index: int, network: IPv4Network) -> Iterator[str]:
    with doing("listing the device's routes"):
        routes = dump(ip.route, family=socket.AF_INET, table=_RT_TABLE_MAIN, oif=index)
    there = [route for route in routes if _leads_to(route, network)]
    if any(_is_plain(route) for route in there):
        return
    for route in there:
        with doing(f"removing a wrong route {network}", errno.ESRCH):
            ip.route("del", scope=route["scope"], **_route(network, index))
        yield f"wrong route {network} removed"
    try:
        with doing(f"adding the route {network}"):
            ip.route(
                "add",
                scope=_RT_SCOPE_UNIVERSE,
                proto=_RTPROT_BOOT,
                **_route(network, index),
            )
    except FileExistsError as error:
        error.add_note(f"another device has it: {_owners(ip, network)}")
        raise
    yield f"route {network} added"


def _route(network: IPv4Network, index: int) -> dict[str, Any]:
    return {
        "family": socket.AF_INET,
        "table": _RT_TABLE_MAIN,
        "dst": str(network),
        "oif": index,
    }


def _leads_to(route: Any, network: IPv4Network) -> bool:
    """Does it have this key in the routing table: prefix, and neither metric nor TOS?

    The kernel keeps one route for each key."""
    return bool(
        route["dst_len"] == network.prefixlen
        and route.get("dst") == str(network.network_address)
        and not route.get("priority")
        and not route["tos"]
    )


def _is_plain(route: Any) -> bool:
    """U4: scope global, no src, no gateway, no metrics."""
    return (
        route["type"] == _RTN_UNICAST
        and route["scope"] == _RT_SCOPE_UNIVERSE
        and not any(
            route.get(name) for name in ("prefsrc", "gateway", "via", "metrics")
        )
    )


def _owners(ip: Any, network: IPv4Network) -> str:
    routes = dump(ip.route, family=socket.AF_INET, table=_RT_TABLE_MAIN)
    names = {link["index"]: link.get("ifname") for link in dump(ip.link)}
    owners = {
        str(names.get(route.get("oif"), "none"))
        for route in routes
        if _leads_to(route, network)
    }
    return ", ".join(sorted(owners))
