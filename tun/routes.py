"""Peers' subnets as kernel routes through the external interface (7.1, V11)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

PeerRoutes = Mapping[IPv4Network | IPv6Network, IPv4Address | IPv6Address]
"""The gateway of each subnet."""


def reconcile_peer_routes(ip: Any, desired: PeerRoutes, index: int) -> list[str]:
    raise NotImplementedError


def on_link(ip: Any, address: IPv4Address | IPv6Address) -> int | None:
    raise NotImplementedError
