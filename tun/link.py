"""Network interfaces: what there is, and how our device should be.

A device is brought to its desired state, not set up once: reconcile() compares and
repairs, and costs three small dumps when there is nothing to do.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path
from typing import Any, Literal

from pyroute2 import NetlinkError

from flannelette.tun.interfaces import (
    Interface,
    address_of,
    default_interface,
    list_interfaces,
)
from flannelette.tun.netlink import Worker, doing, dump
from flannelette.tun.routes import PeerRoutes, on_link, reconcile_peer_routes
from flannelette.tun.vxlan import VxlanState, reconcile_vxlan

_IFF_UP = 0x1
_ADDR_GEN_NONE = 1  # IN6_ADDR_GEN_MODE_NONE
_RT_TABLE_MAIN = 254
_RT_SCOPE_UNIVERSE = 0
_RTN_UNICAST = 1
_RTPROT_BOOT = 3


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
    address6: IPv6Interface | None = None
    """Its one IPv6 address, the lease's base, /128; None: IPv6 stays silent on it."""
    routes6: tuple[IPv6Network, ...] = ()
    mtu6: int = 0
    """Bytes of an IPv6 packet through routes6, if less than the device's MTU."""


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
        return await self._worker.call(list_interfaces)

    async def default_interface(self, version: Literal[4, 6] = 4) -> str | None:
        """The interface of the main table's first default route of that IP version,
        if any (I1)."""
        return await self._worker.call(default_interface, version)

    async def reconcile(self, desired: LinkState) -> list[str]:
        """Bring a device to its desired state; names each repair, [] if none was due.

        Routes and IPv6 addresses that others have added stay. Raises OSError: ENODEV
        when the device is gone, EEXIST when another device has our route."""
        return await self._worker.call(_reconcile, desired)

    async def reconcile_vxlan(self, desired: VxlanState) -> list[str]:
        """Bring a kernel VXLAN device and its peers to the desired state: creates or
        recreates the device as needed; names each repair, [] if none was due."""
        return await self._worker.call(reconcile_vxlan, desired)

    async def reconcile_peer_routes(self, desired: PeerRoutes, index: int) -> list[str]:
        """Route each subnet to its gateway through the interface of that index, and
        remove what earlier calls added and is desired no more, also before a restart;
        names each repair, [] if none was due."""
        return await self._worker.call(reconcile_peer_routes, desired, index)

    async def on_link(self, address: IPv4Address | IPv6Address) -> int | None:
        """The index of the interface that the address is reached through without a
        gateway; None if there is none (V11)."""
        return await self._worker.call(on_link, address)


# What follows runs in the thread; `ip` is its IPRoute, which has no types.


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
        stray = address_of(message)
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
    return address_of(message) == address and message.get("address") == str(address.ip)


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
