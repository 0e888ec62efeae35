"""The peers of a kernel's VXLAN device: neighbours, forwarding database, routes (V12).

They run in the thread of Worker; `ip` is its IPRoute, which has no types.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pyroute2.netlink.rtnl.ndmsg import NTF_SELF, NUD_PERMANENT

from flannelette.tun.interfaces import RT_TABLE_MAIN
from flannelette.tun.netlink import Attempts, doing, dump
from flannelette.tun.repairs import Address, Network, family_of
from flannelette.tun.routes import (
    RTNH_F_ONLINK,
    RTPROT_BOOT,
    gateway_of,
    key_of,
    remove_route,
    remove_routes,
    set_routes,
)


@dataclass(frozen=True, slots=True)
class VxlanPeer:
    """How packets for a peer's subnet leave through the device (V12, V13).

    The subnet is routed to the gateway, the gateway's neighbour entry names the MAC,
    and the FDB entry of that MAC the peer's address."""

    subnet: Network
    mac: str
    """Of the peer's device: lower case, colons."""
    address: Address
    """Where to send the datagrams: of the device's own IP version."""

    @property
    def gateway(self) -> Address:
        """The subnet's base: what the peer's device has."""
        return self.subnet.network_address


def reconcile_peers(
    ip: Any, index: int, family: int, peers: Collection[VxlanPeer]
) -> Iterator[str]:
    """Bring what the device of that index knows of peers to this; names each repair.

    A peer that fails does not stop the others. Raises the first OSError at the end."""
    attempts = Attempts()
    yield from _reconcile_neighbours(ip, attempts, index, family, peers)
    yield from _reconcile_fdb(ip, attempts, index, peers)
    yield from _reconcile_routes(ip, attempts, index, family, peers)
    attempts.end()


def change_peers(
    ip: Any, index: int, gone: Collection[VxlanPeer], new: Collection[VxlanPeer]
) -> None:
    """Tell the device of that index of these peers, and look at no others: of thousands
    that takes seconds. A peer that changes is in both. Fails as reconcile_peers()."""
    attempts = Attempts()
    subnets = {peer.subnet for peer in new}
    macs = {peer.mac for peer in new}
    for peer in gone:
        if peer.subnet not in subnets:
            remove_route(ip, attempts, peer.subnet, peer.gateway, index, RTPROT_BOOT)
            what = f"removing the neighbour {peer.gateway}"
            with attempts.passing_over(what, errno.ENOENT):
                _remove_neighbour(ip, index, peer.gateway)
        if peer.mac not in macs:
            what = f"removing the FDB entry {peer.mac}"
            with attempts.passing_over(what, errno.ENOENT):
                _remove_fdb(ip, index, peer.mac)
    for peer in new:
        with attempts.passing_over(f"setting the neighbour {peer.gateway}"):
            _set_neighbour(ip, index, peer.gateway, peer.mac)
        with attempts.passing_over(f"setting the FDB entry {peer.mac}"):
            _set_fdb(ip, index, peer.mac, peer.address)
    _set_routes(ip, attempts, (), index, new)
    attempts.end()


# ---- neighbours ----------------------------------------------------------------------


def _reconcile_neighbours(
    ip: Any, attempts: Attempts, index: int, family: int, peers: Collection[VxlanPeer]
) -> Iterator[str]:
    """V12, 1: gateway to MAC. What the kernel has learnt by itself stays."""
    with doing("listing the device's neighbours"):
        there = {
            ip_address(entry.get("dst")): entry
            for entry in dump(ip.neigh, family=family, NDA_IFINDEX=index)
            if entry["state"] & NUD_PERMANENT
        }
    wanted = {peer.gateway: peer.mac for peer in peers}
    for gateway, mac in wanted.items():
        entry = there.pop(gateway, None)
        if entry is not None and entry.get("lladdr") == mac:
            continue
        with attempts.passing_over(f"setting the neighbour {gateway} to {mac}"):
            _set_neighbour(ip, index, gateway, mac)
            yield f"neighbour {gateway} set to {mac}"
    for gateway in there:
        what = f"removing the neighbour {gateway}"
        with attempts.passing_over(what, errno.ENOENT):
            _remove_neighbour(ip, index, gateway)
            yield f"neighbour {gateway} removed"


def _set_neighbour(ip: Any, index: int, gateway: Address, mac: str) -> None:
    ip.neigh(
        "replace",
        family=family_of(gateway),
        ifindex=index,
        dst=str(gateway),
        lladdr=mac,
        state=NUD_PERMANENT,
    )


def _remove_neighbour(ip: Any, index: int, gateway: Address) -> None:
    ip.neigh("del", family=family_of(gateway), ifindex=index, dst=str(gateway))


# ---- the forwarding database ---------------------------------------------------------


def _reconcile_fdb(
    ip: Any, attempts: Attempts, index: int, peers: Collection[VxlanPeer]
) -> Iterator[str]:
    """V12, 2: MAC to address. What the device has learnt by itself stays."""
    with doing("listing the device's forwarding database"):
        # For a unicast MAC there is one at most.
        there = {
            entry.get("lladdr"): entry
            for entry in dump(ip.neigh, family=socket.AF_BRIDGE, ifindex=index)
            if entry["flags"] & NTF_SELF and entry["state"] & NUD_PERMANENT
        }
    wanted = {peer.mac: peer.address for peer in peers}
    for mac, address in wanted.items():
        entry = there.pop(mac, None)
        if entry is not None and _leads_only_to(entry, address):
            continue
        with attempts.passing_over(f"setting the FDB entry {mac} to {address}"):
            _set_fdb(ip, index, mac, address)
            yield f"FDB entry {mac} set to {address}"
    for mac in there:
        what = f"removing the FDB entry {mac}"
        with attempts.passing_over(what, errno.ENOENT):
            _remove_fdb(ip, index, mac)
            yield f"FDB entry {mac} removed"


def _set_fdb(ip: Any, index: int, mac: str, address: Address) -> None:
    ip.neigh(
        "replace",
        family=socket.AF_BRIDGE,
        ifindex=index,
        flags=NTF_SELF,
        lladdr=mac,
        dst=str(address),
        state=NUD_PERMANENT,
    )


def _remove_fdb(ip: Any, index: int, mac: str) -> None:
    """Without a dst: all that it leads to."""
    ip.neigh("del", family=socket.AF_BRIDGE, ifindex=index, flags=NTF_SELF, lladdr=mac)


def _leads_only_to(entry: Any, address: Address) -> bool:
    """Does it say nothing else? The device's own port and VNI are not shown."""
    dst = entry.get("dst")
    others = ("NDA_PORT", "NDA_VNI", "NDA_IFINDEX", "NDA_NH_ID")
    return (
        dst is not None
        and ip_address(dst) == address
        and not any(entry.get_attr(other) for other in others)
    )


# ---- routes --------------------------------------------------------------------------


def _reconcile_routes(
    ip: Any, attempts: Attempts, index: int, family: int, peers: Collection[VxlanPeer]
) -> list[str]:
    """V12, 3: subnet to gateway. Others' routes through the device stay: only a peer's
    has its own base as its gateway."""
    with doing("listing the device's routes"):
        there = dump(ip.route, family=family, table=RT_TABLE_MAIN, oif=index)
    wanted = {peer.subnet for peer in peers}
    stale = [
        route
        for route in there
        if (key := key_of(route))
        and key not in wanted
        and gateway_of(route) == key.network_address
    ]
    repairs = _set_routes(ip, attempts, there, index, peers)
    return [*repairs, *remove_routes(ip, attempts, stale)]


def _set_routes(
    ip: Any,
    attempts: Attempts,
    there: Collection[Any],
    index: int,
    peers: Collection[VxlanPeer],
) -> list[str]:
    gateways = {peer.subnet: peer.gateway for peer in peers}
    flags = RTNH_F_ONLINK
    return set_routes(
        ip, attempts, there, gateways, index, proto=RTPROT_BOOT, flags=flags
    )
