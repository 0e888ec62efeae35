"""Kernel routes in the main table: what they say, and peers' subnets through the
external interface (7.1, V11).

They run in the thread of Worker; `ip` is its IPRoute, which has no types.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from flannelette.tun.interfaces import RT_TABLE_MAIN, RTN_UNICAST
from flannelette.tun.netlink import Attempts, doing, dump
from flannelette.tun.repairs import Address, Network, family_of

Gateways = Mapping[Network, Address]
"""The gateway of each subnet."""

RTPROT_BOOT = 3
RTPROT_PEER = 70
"""Marks a peer's route as ours; rt_protos of iproute2 gives the number to nobody."""
RTNH_F_ONLINK = 4

_RT_SCOPE_UNIVERSE = 0
_FIB_MATCH = 0x2000
"""RTM_F_FIB_MATCH: the route itself, not what it makes of an address."""
_IP6_RT_PRIO_USER = 1024  # what the kernel makes of no metric
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES)
"""How the kernel says: no route, or one of type unreachable, blackhole, prohibit."""


# ---- one route -----------------------------------------------------------------------


def prefix_of(route: Any) -> Network:
    """The destination."""
    if route["family"] == socket.AF_INET6:
        return IPv6Network((route.get("dst") or "::", route["dst_len"]))
    return IPv4Network((route.get("dst") or "0.0.0.0", route["dst_len"]))


def key_of(route: Any) -> Network | None:
    """The prefix, if there is neither metric nor TOS: then it is all of the key in the
    routing table, and other routes of that key are in our way."""
    unset = _IP6_RT_PRIO_USER if route["family"] == socket.AF_INET6 else 0
    plain = (route.get("priority") or 0) == unset and not route["tos"]
    return prefix_of(route) if plain else None


def says_only(route: Any, gateway: Address | None = None, mtu: int = 0) -> bool:
    """Is it a unicast route of global scope with this gateway, this metric "mtu" in
    bytes (0: none) and nothing else, such as a source address (U4)?"""
    metrics = route.get("metrics")
    there = dict(metrics["attrs"]) if metrics else {}
    return (
        route["type"] == RTN_UNICAST
        and route["scope"] == _RT_SCOPE_UNIVERSE
        and gateway_of(route) == gateway
        and there == ({"RTAX_MTU": mtu} if mtu else {})
        and not any(route.get(name) for name in ("prefsrc", "via", "multipath"))
    )


def gateway_of(route: Any) -> Address | None:
    gateway = route.get("gateway")
    return ip_address(gateway) if gateway else None


def message(network: Network, index: int, **more: Any) -> dict[str, Any]:
    """What a request for a route through the interface of that index consists of."""
    if network.version == 6:
        more = {"priority": _IP6_RT_PRIO_USER, **more}
    return {
        "family": family_of(network),
        "table": RT_TABLE_MAIN,
        "dst": str(network),
        "oif": index,
        **more,
    }


def add_route(ip: Any, network: Network, index: int, mtu: int = 0) -> None:
    """Without a gateway, and not over another route. Raises OSError: EEXIST."""
    metrics = {"metrics": {"mtu": mtu}} if mtu else {}
    try:
        with doing(f"adding the route {network}"):
            ip.route(
                "add",
                **message(network, index, scope=_RT_SCOPE_UNIVERSE, **metrics),
                proto=RTPROT_BOOT,
            )
    except FileExistsError as error:
        error.add_note(f"another device has it: {_owners(ip, network)}")
        raise


def _owners(ip: Any, network: Network) -> str:
    routes = dump(ip.route, family=family_of(network), table=RT_TABLE_MAIN)
    names = _names(ip)
    owners = {
        names.get(route.get("oif"), "none")
        for route in routes
        if key_of(route) == network
    }
    return ", ".join(sorted(owners))


def _names(ip: Any) -> dict[int, str]:
    """Of the interfaces, by index."""
    return {link["index"]: str(link.get("ifname")) for link in dump(ip.link)}


# ---- peers' routes -------------------------------------------------------------------


def reconcile_peer_routes(
    ip: Any, desired: Gateways, index: int, overlay: Collection[Network]
) -> list[str]:
    """Route each subnet to its gateway through the interface of that index; an equal
    route of somebody else's will do, another one gives way (7.1). Then remove routes
    with our mark that are desired no more, of subnets of our overlay's networks: what
    lies elsewhere is another daemon's.

    One that fails does not stop the others. Raises the first OSError at the end."""
    with doing("listing the peers' routes"):
        there = _dump_routes(ip, oif=index)
        ours = _dump_routes(ip, proto=RTPROT_PEER)
    attempts = Attempts()
    repairs = set_routes(ip, attempts, there, desired, index, proto=RTPROT_PEER)
    stale = [
        route
        for route in ours
        if (key := key_of(route)) and key not in desired and is_of(key, overlay)
    ]
    repairs += remove_routes(ip, attempts, stale)
    attempts.end()
    return repairs


def is_of(subnet: Network, networks: Collection[Network]) -> bool:
    """Is it a part of one of them?"""
    return any(
        subnet.version == network.version and subnet.subnet_of(network)  # type: ignore[arg-type]  # mypy does not see that they are of one version
        for network in networks
    )


def _dump_routes(ip: Any, **criteria: Any) -> list[Any]:
    return [
        route
        for family in (socket.AF_INET, socket.AF_INET6)
        for route in dump(ip.route, family=family, table=RT_TABLE_MAIN, **criteria)
        # A kernel without IPv6 answers with what else it has.
        if route["family"] == family
    ]


def set_routes(
    ip: Any,
    attempts: Attempts,
    there: Iterable[Any],
    desired: Gateways,
    index: int,
    *,
    proto: int,
    flags: int = 0,
) -> list[str]:
    """Make those that are not among the routes there, which are that interface's, in
    the place of any with the same key."""
    found = {
        key
        for route in there
        if (key := key_of(route)) is not None
        and key in desired
        and says_only(route, desired[key])
        and route["flags"] & flags == flags
    }
    repairs = []
    for network, gateway in desired.items():
        if network in found:
            continue
        with attempts.passing_over(f"routing {network} via {gateway}"):
            more = {"gateway": str(gateway), "flags": flags, "proto": proto}
            ip.route("replace", **message(network, index, **more))
            repairs.append(f"route {network} via {gateway} set")
    return repairs


def change_peer_routes(ip: Any, gone: Gateways, new: Gateways, index: int) -> None:
    """Tell the kernel of these subnets, and look at no others: of thousands that takes
    seconds. One that gets another gateway is in both.

    One that fails does not stop the others. Raises the first OSError at the end."""
    attempts = Attempts()
    for subnet, gateway in gone.items():
        if subnet not in new:
            remove_route(ip, attempts, subnet, gateway, index, RTPROT_PEER)
    set_routes(ip, attempts, (), new, index, proto=RTPROT_PEER)
    attempts.end()


def remove_route(
    ip: Any,
    attempts: Attempts,
    network: Network,
    gateway: Address,
    index: int,
    proto: int,
) -> None:
    """Remove one that we have set, unless it is gone by itself."""
    with attempts.passing_over(f"removing the route {network}", errno.ESRCH):
        key = message(network, index, gateway=str(gateway))
        ip.route("del", **key, scope=_RT_SCOPE_UNIVERSE, proto=proto)


def remove_routes(ip: Any, attempts: Attempts, stale: Iterable[Any]) -> list[str]:
    """Remove routes as a dump has shown them, unless they are gone by themselves."""
    repairs = []
    for route in stale:
        prefix, gateway = prefix_of(route), route.get("gateway")
        with attempts.passing_over(f"removing the route {prefix}", errno.ESRCH):
            key = message(prefix, route.get("oif"), gateway=gateway)
            ip.route("del", **key, scope=route["scope"], proto=route["proto"])
            repairs.append(f"route {prefix} via {gateway} removed")
    return repairs


# ---- lookups -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exit:
    """Where packets to an address leave this machine."""

    interface: str
    source: Address | None
    """The address that they come from, unless their sender says another."""


@dataclass(frozen=True, slots=True)
class Way:
    """The route of the routing tables that an address takes."""

    prefix: Network
    interface: str
    gateway: Address | None


def ways_to(ip: Any, addresses: Collection[Address]) -> dict[Address, Way | None]:
    """The way to each address; None if there is none, or none away from here. Raises
    OSError."""
    with doing("listing the interfaces"):
        names = _names(ip)
    return {address: _way_to(ip, address, names) for address in addresses}


def _way_to(ip: Any, address: Address, names: Mapping[int, str]) -> Way | None:
    for route in _get(ip, address, flags=_FIB_MATCH):
        name = names.get(route.get("oif"), "")
        return Way(prefix_of(route), name, gateway_of(route))
    return None


def on_link(ip: Any, address: Address) -> int | None:
    """The index of the interface that the address is reached through without a
    gateway; None if there is none (V11). Raises OSError."""
    for route in _get(ip, address):
        if not (route.get("gateway") or route.get("via")):
            return int(route.get("oif"))
    return None


def exit_to(ip: Any, address: Address) -> Exit | None:
    """None if packets to the address do not leave this machine. Raises OSError."""
    for route in _get(ip, address):
        with doing("looking for an interface"):
            (link,) = ip.link("get", index=route.get("oif"))
        source = route.get("prefsrc")
        return Exit(str(link.get("ifname")), ip_address(source) if source else None)
    return None


def _get(ip: Any, address: Address, **more: Any) -> list[Any]:
    """The unicast routes that the kernel answers with: one, or none."""
    routes: list[Any] = []
    with doing(f"looking for the route to {address}", *_UNREACHABLE):
        family = family_of(address)
        routes = ip.route("get", dst=str(address), family=family, **more)
    return [route for route in routes if route["type"] == RTN_UNICAST]
