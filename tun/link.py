"""Network interfaces: what there is, and how our device should be.

A device is brought to its desired state, not set up once: reconcile() compares and
repairs, and costs three small dumps when there is nothing to do.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
)
from typing import Any, Literal

from pyroute2 import NetlinkError

from flannelette.tun.blackhole import reconcile_blackholes
from flannelette.tun.interfaces import (
    RT_TABLE_MAIN,
    Interface,
    default_interface,
    list_interfaces,
)
from flannelette.tun.netlink import Worker, doing, dump
from flannelette.tun.repairs import (
    Address,
    Network,
    family_of,
    ignore_routers,
    repair_address,
    repair_mtu,
    repair_setting,
    repair_up,
    switch_ipv6_on,
)
from flannelette.tun.routes import (
    Exit,
    Gateways,
    Way,
    add_route,
    change_peer_routes,
    exit_to,
    key_of,
    message,
    on_link,
    reconcile_peer_routes,
    says_only,
    ways_to,
)
from flannelette.tun.vxlan import VxlanState, change_vxlan, reconcile_vxlan, vxlan_ports
from flannelette.tun.vxlanpeers import VxlanPeer

_ADDR_GEN_NONE = 1  # IN6_ADDR_GEN_MODE_NONE


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

    async def exit_to(self, address: Address) -> Exit | None:
        """Where packets to the address leave this machine; None if they do not
        (I4)."""
        return await self._worker.call(exit_to, address)

    async def reconcile(self, desired: LinkState) -> list[str]:
        """Bring a device to its desired state; names each repair, [] if none was due.

        Routes and IPv6 addresses that others have added stay. Raises OSError: ENODEV
        when the device is gone, EEXIST when another device has our route."""
        return await self._worker.call(_reconcile, desired)

    async def reconcile_vxlan(self, desired: VxlanState) -> list[str]:
        """Bring a kernel VXLAN device and its peers to the desired state: creates or
        recreates the device as needed; names each repair, [] if none was due, and an
        OSError tells of those before it (repairs.made_before).

        Remove direct routes to its peers before: the kernel refuses an IPv6 one through
        the device (EINVAL) while its subnet is routed elsewhere."""
        return await self._worker.call(reconcile_vxlan, desired)

    async def vxlan_ports(self) -> dict[str, int]:
        """The kernel's VXLAN devices that are up, each with its UDP port."""
        return await self._worker.call(vxlan_ports)

    async def change_vxlan(
        self, name: str, gone: Collection[VxlanPeer], new: Collection[VxlanPeer]
    ) -> None:
        """Tell a VXLAN device of these peers alone; one that changes is in both."""
        await self._worker.call(change_vxlan, name, gone, new)

    async def change_peer_routes(
        self, gone: Gateways, new: Gateways, index: int
    ) -> None:
        """Tell the kernel of these peers' routes alone; one that changes is in both."""
        await self._worker.call(change_peer_routes, gone, new, index)

    async def reconcile_peer_routes(
        self, desired: Gateways, index: int, overlay: Collection[Network]
    ) -> list[str]:
        """Route each subnet to its gateway through the interface of that index, and
        remove what earlier calls added for subnets of the overlay's networks and is
        desired no more, also before a restart; names each repair, [] if none was
        due."""
        return await self._worker.call(reconcile_peer_routes, desired, index, overlay)

    async def reconcile_blackholes(
        self, desired: Collection[Network], overlay: Collection[Network]
    ) -> list[str]:
        """Make a blackhole of each subnet, as the last route to be asked, and remove
        what earlier calls made of subnets of the overlay's networks and is desired no
        more, also before a restart; names each step, [] if none was due."""
        return await self._worker.call(reconcile_blackholes, desired, overlay)

    async def on_link(self, address: Address) -> int | None:
        """The index of the interface that the address is reached through without a
        gateway; None if there is none (V11)."""
        return await self._worker.call(on_link, address)

    async def ways_to(
        self, addresses: Collection[Address]
    ) -> dict[Address, Way | None]:
        """The route that each address takes; None if there is none, or it ends here."""
        return await self._worker.call(ways_to, addresses)


# What follows runs in the thread; `ip` is its IPRoute, which has no types.


def _reconcile(ip: Any, desired: LinkState) -> list[str]:
    with doing(f"looking at the device {desired.name}"):
        (link,) = ip.link("get", ifname=desired.name)
    index = link["index"]
    mtu6 = desired.mtu6 if desired.mtu6 < desired.mtu else 0
    # Addresses before the way up and routes after it: without an address generation
    # mode IPv6 stays silent only if it is set first, and a device that is down
    # takes no routes.
    return [
        *repair_mtu(ip, link, desired.mtu),
        *_silence_ipv6(ip, link),
        *_let_in_our_own(desired.name),
        *repair_address(ip, index, desired.address),
        *_reconcile_address6(ip, index, desired),
        *repair_up(ip, link),
        *(
            repair
            for network in desired.routes
            for repair in _reconcile_route(ip, index, network)
        ),
        *(
            repair
            for network in desired.routes6
            for repair in _reconcile_route(ip, index, network, mtu6)
        ),
    ]


def _silence_ipv6(ip: Any, link: Any) -> Iterator[str]:
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


def _let_in_our_own(name: str) -> Iterator[str]:
    """Let in what comes from an address of our own, as our ICMP errors do.

    Their source is the TUN's address (U17), and the kernel drops such a packet on
    arrival unless told otherwise: flanneld's errors never reach a pod.

    Best effort: where /proc/sys is read-only the errors are lost, and nothing else."""
    repair = "packets from our own address let in"
    yield from repair_setting(4, name, "accept_local", "1", repair)


def _reconcile_address6(ip: Any, index: int, desired: LinkState) -> Iterator[str]:
    if desired.address6 is None:
        return
    yield from switch_ipv6_on(desired.name)
    yield from ignore_routers(desired.name)
    yield from repair_address(ip, index, desired.address6)


def _reconcile_route(
    ip: Any, index: int, network: Network, mtu: int = 0
) -> Iterator[str]:
    """mtu: what the route itself says, bytes; 0: nothing."""
    family = family_of(network)
    with doing("listing the device's routes"):
        routes = dump(ip.route, family=family, table=RT_TABLE_MAIN, oif=index)
    there = [route for route in routes if key_of(route) == network]
    if any(says_only(route, mtu=mtu) for route in there):
        return
    for route in there:
        with doing(f"removing a wrong route {network}", errno.ESRCH):
            ip.route("del", **message(network, index), scope=route["scope"])
        yield f"wrong route {network} removed"
    add_route(ip, network, index, mtu)
    yield f"route {network} added"
