"""The kernel's VXLAN device, programmed as flanneld does (V5, V6, V9 to V15)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any


@dataclass(frozen=True, slots=True)
class VxlanPeer:
    """How packets for a peer's subnet leave through the device (V12, V13).

    The subnet is routed to the gateway, the gateway's neighbour entry names the MAC,
    and the FDB entry of that MAC the endpoint."""

    subnet: IPv4Network | IPv6Network
    gateway: IPv4Address | IPv6Address
    """The subnet's base: the address of the peer's device."""
    mac: str
    """Of the peer's device: lower case, colons."""
    endpoint: IPv4Address | IPv6Address
    """Where to send the datagrams: of the device's own IP version."""


@dataclass(frozen=True, slots=True)
class VxlanState:
    """How a VXLAN device of ours should be, for one IP version."""

    name: str
    vni: int
    port: int
    """UDP port; 0: the kernel's default, 8472 (V2)."""
    lower: int
    """Index of the external interface."""
    local: IPv4Address | IPv6Address
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


def reconcile_vxlan(ip: Any, desired: VxlanState) -> list[str]:
    raise NotImplementedError
