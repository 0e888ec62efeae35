"""The kernel's VXLAN device, programmed as flanneld does (V5, V6, V9 to V15)."""

from __future__ import annotations

import errno
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import Any

from flannelette.tun.interfaces import IFF_UP
from flannelette.tun.netlink import doing, dump
from flannelette.tun.repairs import (
    Address,
    family_of,
    ignore_routers,
    repair_address,
    repair_mtu,
    repair_up,
    switch_ipv6_on,
    telling,
)
from flannelette.tun.vxlanpeers import VxlanPeer, change_peers, reconcile_peers

_KIND = "vxlan"
_OVERHEAD = {4: 50, 6: 70}
"""Bytes, by the IP version that the underlay has (V4)."""


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
    """Raises OSError, which tells of the repairs made before it (repairs.made_before):
    EOPNOTSUPP without the kernel's vxlan driver, EADDRINUSE when another socket has the
    UDP port, EEXIST when another device has the VNI, EINVAL when the external interface
    has no room for the MTU.

    A peer that fails does not stop the others."""
    repairs: list[str] = []
    with telling(repairs):
        for repair in _steps(ip, desired):
            repairs.append(repair)
    return repairs


def _steps(ip: Any, desired: VxlanState) -> Iterator[str]:
    link = yield from _reconcile_device(ip, desired)
    name, index = desired.name, link["index"]
    address = desired.address
    if address.version == 6:
        yield from switch_ipv6_on(name)
    yield from ignore_routers(name)  # V9
    yield from _reconcile_mac(ip, link, desired)
    yield from repair_address(ip, index, address)
    try:
        yield from repair_up(ip, link)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            error.add_note("another program or device has the UDP port")
        raise
    yield from reconcile_peers(ip, index, family_of(address), desired.peers)
    yield from _reconcile_mtu(ip, link, desired)


def change_vxlan(
    ip: Any, name: str, gone: Collection[VxlanPeer], new: Collection[VxlanPeer]
) -> None:
    """Tell a device of these peers alone. Raises OSError: ENODEV without the device."""
    link = _find(ip, name)
    if link is None:
        raise OSError(errno.ENODEV, f"there is no device {name}")
    change_peers(ip, link["index"], gone, new)


def vxlan_ports(ip: Any) -> dict[str, int]:
    """Of the devices that are up, whosever they are; the others have no socket. Raises
    OSError."""
    with doing("listing the VXLAN devices"):
        links = dump(ip.link)
    return {
        link.get("ifname"): link.get_nested(*_PORT)
        for link in links
        if link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == _KIND
        and link["flags"] & IFF_UP
    }


_PORT = ("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_VXLAN_PORT")


# ---- the device ----------------------------------------------------------------------


def _reconcile_device(ip: Any, desired: VxlanState) -> Generator[str, None, Any]:
    """Returns the device as the kernel shows it."""
    link = _find(ip, desired.name)
    if link is not None:
        wrong = _unusable(link, desired)
        if wrong is None:
            yield from _reconcile_learning(ip, link, desired)
            return link
        with doing(f"removing the device {desired.name}", errno.ENODEV):
            ip.link("del", index=link["index"])
        yield f"device removed: {wrong}"
    _create(ip, desired)
    yield "device created"
    link = _find(ip, desired.name)
    if link is None:
        raise OSError(errno.ENODEV, f"{desired.name} is gone as soon as it was made")
    return link


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


def _reconcile_mtu(ip: Any, link: Any, desired: VxlanState) -> Iterator[str]:
    """The last step: the kernel refuses more than the external interface has room for,
    which may have shrunk since its MTU was taken for ours."""
    try:
        yield from repair_mtu(ip, link, desired.mtu)
    except OSError as error:
        if error.errno == errno.EINVAL:
            _explain_mtu(ip, error, desired)
        raise


def _explain_mtu(ip: Any, error: OSError, desired: VxlanState) -> None:
    links: list[Any] = []
    with doing("looking at the external interface", errno.ENODEV):
        links = ip.link("get", index=desired.lower)
    for lower in links:
        mtu = lower.get("mtu")
        room = mtu - _OVERHEAD[desired.local.version]
        if room < desired.mtu:
            error.add_note(
                f"{lower.get('ifname')} has an MTU of {mtu}, which leaves room for "
                f"{room}: restart if it has shrunk, else lower Backend.MTU"
            )
