"""The kernel's VXLAN device, programmed as flanneld does (V5, V6, V9 to V15)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import Any

from pyroute2.netlink.rtnl.ndmsg import NTF_SELF, NUD_PERMANENT

from flannelette.tun.interfaces import RT_TABLE_MAIN
from flannelette.tun.netlink import Attempts, doing, dump
from flannelette.tun.repairs import (
    Address,
    Network,
    family_of,
    ignore_routers,
    repair_address,
    repair_mtu,
    repair_up,
    switch_ipv6_on,
)
from flannelette.tun.routes import (
    RTNH_F_ONLINK,
    RTPROT_BOOT,
    gateway_of,
    key_of,
    remove_routes,
    set_routes,
)

_KIND = "vxlan"


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


@dataclass(frozen=True, slots=True)
class VxlanState:
    """How a VXLAN device of ours should be, for one IP version."""

    name: str
    vni: int
    port: int
    """UDP port; 0: the kernel's default, 8472 (V2)."""
    lower: int
    """Index of the external interface."""
    local: Address
    """Source of the datagrams, and the version that the underlay has."""
    mac: str
    """Lower case, colons."""
    mtu: int
    """Bytes."""
    address: IPv4Interface | IPv6Interface
    """Its one address beside link-local ones: the lease's base, /32 or /128 (V10)."""
    gbp: bool = False
    learning: bool = False
    peers: tuple[VxlanPeer, ...] = ()


# What follows runs in the thread of Worker; `ip` is its IPRoute, which has no types.


def reconcile_vxlan(ip: Any, desired: VxlanState) -> list[str]:
    """Raises OSError: EOPNOTSUPP without the kernel's vxlan driver, EADDRINUSE when
    another socket has the UDP port, EEXIST when another device has the VNI.

    A peer that fails does not stop the others."""
    repairs, link = _reconcile_device(ip, desired)
    name, index = desired.name, link["index"]
    address = desired.address
    if address.version == 6:
        repairs += switch_ipv6_on(name)
    repairs += ignore_routers(name)  # V9
    repairs += _reconcile_mac(ip, link, desired)
    repairs += repair_address(ip, index, address)
    try:
        repairs += repair_up(ip, link)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            error.add_note("another program or device has the UDP port")
        raise
    attempts = Attempts()
    repairs += _reconcile_neighbours(ip, attempts, index, desired)
    repairs += _reconcile_fdb(ip, attempts, index, desired)
    repairs += _reconcile_routes(ip, attempts, index, desired)
    attempts.end()
    # Last: the kernel refuses more than the external interface has room for.
    repairs += repair_mtu(ip, link, desired.mtu)
    return repairs


# ---- the device ----------------------------------------------------------------------


def _reconcile_device(ip: Any, desired: VxlanState) -> tuple[list[str], Any]:
    """The repairs, and the device as the kernel shows it."""
    repairs = []
    link = _find(ip, desired.name)
    if link is not None:
        wrong = _unusable(link, desired)
        if wrong is None:
            return list(_reconcile_learning(ip, link, desired)), link
        with doing(f"removing the device {desired.name}", errno.ENODEV):
            ip.link("del", index=link["index"])
        repairs.append(f"device removed: {wrong}")
    _create(ip, desired)
    repairs.append("device created")
    link = _find(ip, desired.name)
    if link is None:
        raise OSError(errno.ENODEV, f"{desired.name} is gone as soon as it was made")
    return repairs, link


def _find(ip: Any, name: str) -> Any | None:
    links: list[Any] = []
    with doing(f"looking at the device {name}", errno.ENODEV):
        links = ip.link("get", ifname=name)
    return links[0] if links else None


def _unusable(link: Any, desired: VxlanState) -> str | None:
    """Why the device has to be made anew (V6); None: it need not."""
    kind = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND")
    if kind != _KIND:
        return f"its kind was {kind}"
    there = dict(link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")["attrs"])
    local = there.get("IFLA_VXLAN_LOCAL") or there.get("IFLA_VXLAN_LOCAL6")
    compared = [
        ("VNI", there.get("IFLA_VXLAN_ID"), desired.vni),
        ("external interface", there.get("IFLA_VXLAN_LINK"), desired.lower),
        ("local address", ip_address(local) if local else None, desired.local),
        ("l2miss", bool(there.get("IFLA_VXLAN_L2MISS")), False),
        ("GBP", bool(there.get("IFLA_VXLAN_GBP")), desired.gbp),
    ]
    if desired.port:
        compared.append(("port", there.get("IFLA_VXLAN_PORT"), desired.port))
    for what, now, wanted in compared:
        if now != wanted:
            return f"its {what} was {now}, not {wanted}"
    return None


def _create(ip: Any, desired: VxlanState) -> None:
    """V5: these attributes, and no others."""
    local = "vxlan_local" if desired.local.version == 4 else "vxlan_local6"
    attributes = {
        "vxlan_id": desired.vni,
        "vxlan_link": desired.lower,
        local: str(desired.local),
        "vxlan_ttl": 0,
        "vxlan_tos": 0,
        "vxlan_learning": int(desired.learning),
        "vxlan_proxy": 0,
        "vxlan_rsc": 0,
        "vxlan_l2miss": 0,
        "vxlan_l3miss": 0,
        "vxlan_udp_zero_csum6_tx": 0,
        "vxlan_udp_zero_csum6_rx": 0,
    }
    if desired.gbp:
        attributes["vxlan_gbp"] = True
    if desired.port:
        attributes["vxlan_port"] = desired.port
    try:
        with doing(f"creating the VXLAN device {desired.name}"):
            ip.link(
                "add",
                ifname=desired.name,
                kind=_KIND,
                mtu=desired.mtu,
                address=desired.mac,
                **attributes,
            )
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            error.add_note("the kernel has no vxlan driver: modprobe vxlan")
        elif error.errno == errno.EEXIST:
            error.add_note(f"another VXLAN device has VNI {desired.vni} on this port")
        raise


def _reconcile_learning(ip: Any, link: Any, desired: VxlanState) -> Iterator[str]:
    path = ("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_VXLAN_LEARNING")
    if bool(link.get_nested(*path)) == desired.learning:
        return
    switched = "on" if desired.learning else "off"
    with doing(f"switching learning {switched}"):
        ip.link(
            "set",
            index=link["index"],
            kind=_KIND,
            vxlan_learning=int(desired.learning),
        )
    yield f"learning switched {switched}"


def _reconcile_mac(ip: Any, link: Any, desired: VxlanState) -> Iterator[str]:
    """Peers send to the MAC in our lease; udev and systemd like to give others (V7)."""
    now = link.get("address")
    if now != desired.mac:
        with doing(f"setting the MAC of {desired.name} to {desired.mac}"):
            ip.link("set", index=link["index"], address=desired.mac)
        yield f"MAC changed from {now} to {desired.mac}"


# ---- its peers -----------------------------------------------------------------------


def _reconcile_neighbours(
    ip: Any, attempts: Attempts, index: int, desired: VxlanState
) -> Iterator[str]:
    """V12, 1: gateway to MAC. What the kernel has learnt by itself stays."""
    family = family_of(desired.address)
    with doing("listing the device's neighbours"):
        there = {
            ip_address(entry.get("dst")): entry
            for entry in dump(ip.neigh, family=family, NDA_IFINDEX=index)
            if entry["state"] & NUD_PERMANENT
        }
    wanted = {peer.gateway: peer.mac for peer in desired.peers}
    for gateway, mac in wanted.items():
        entry = there.pop(gateway, None)
        if entry is not None and entry.get("lladdr") == mac:
            continue
        with attempts.passing_over(f"setting the neighbour {gateway} to {mac}"):
            ip.neigh(
                "replace",
                family=family,
                ifindex=index,
                dst=str(gateway),
                lladdr=mac,
                state=NUD_PERMANENT,
            )
            yield f"neighbour {gateway} set to {mac}"
    for gateway in there:
        what = f"removing the neighbour {gateway}"
        with attempts.passing_over(what, errno.ENOENT):
            ip.neigh("del", family=family, ifindex=index, dst=str(gateway))
            yield f"neighbour {gateway} removed"


def _reconcile_fdb(
    ip: Any, attempts: Attempts, index: int, desired: VxlanState
) -> Iterator[str]:
    """V12, 2: MAC to address. What the device has learnt by itself stays."""
    with doing("listing the device's forwarding database"):
        # For a unicast MAC there is one at most.
        there = {
            entry.get("lladdr"): entry
            for entry in dump(ip.neigh, family=socket.AF_BRIDGE, ifindex=index)
            if entry["flags"] & NTF_SELF and entry["state"] & NUD_PERMANENT
        }
    fdb = {"family": socket.AF_BRIDGE, "ifindex": index, "flags": NTF_SELF}
    wanted = {peer.mac: peer.address for peer in desired.peers}
    for mac, address in wanted.items():
        entry = there.pop(mac, None)
        if entry is not None and _leads_only_to(entry, address):
            continue
        with attempts.passing_over(f"setting the FDB entry {mac} to {address}"):
            ip.neigh(
                "replace",
                lladdr=mac,
                dst=str(address),
                state=NUD_PERMANENT,
                **fdb,
            )
            yield f"FDB entry {mac} set to {address}"
    for mac in there:
        what = f"removing the FDB entry {mac}"
        with attempts.passing_over(what, errno.ENOENT):
            ip.neigh("del", lladdr=mac, **fdb)  # without a dst: all that it leads to
            yield f"FDB entry {mac} removed"


def _leads_only_to(entry: Any, address: Address) -> bool:
    """Does it say nothing else? The device's own port and VNI are not shown."""
    dst = entry.get("dst")
    others = ("NDA_PORT", "NDA_VNI", "NDA_IFINDEX", "NDA_NH_ID")
    return (
        dst is not None
        and ip_address(dst) == address
        and not any(entry.get_attr(other) for other in others)
    )


def _reconcile_routes(
    ip: Any, attempts: Attempts, index: int, desired: VxlanState
) -> list[str]:
    """V12, 3: subnet to gateway. Others' routes through the device stay: only a peer's
    has its own base as its gateway."""
    family = family_of(desired.address)
    with doing("listing the device's routes"):
        there = dump(ip.route, family=family, table=RT_TABLE_MAIN, oif=index)
    wanted = {peer.subnet: peer.gateway for peer in desired.peers}
    stale = [
        route
        for route in there
        if (key := key_of(route))
        and key not in wanted
        and gateway_of(route) == key.network_address
    ]
    return [
        *set_routes(
            ip,
            attempts,
            there,
            wanted,
            index,
            proto=RTPROT_BOOT,
            flags=RTNH_F_ONLINK,
        ),
        *remove_routes(ip, attempts, stale),
    ]
