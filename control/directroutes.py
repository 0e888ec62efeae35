"""Peers on our own network segment, reached without encapsulation (V11, W14)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from flannelette.control.backends.backend import Subnet
from flannelette.control.plan import Plan
from flannelette.dataplane.forwarder import Route
from flannelette.tun.link import Netlink

Gateways = dict[Subnet, IPv4Address | IPv6Address]

MEMORY = 60.0
"""Seconds for which the kernel's answer about a peer's address is remembered: asking
for a thousand of them takes it most of a second."""


class DirectRoutes:
    """Keeps a kernel route to each subnet whose peer is on the segment of the external
    interface, and to no other."""

    def __init__(self, netlink: Netlink, plan: Plan, wanted: bool) -> None:
        """Not `wanted`, there is none, nor one that was left from when they were."""
        self.subnets: Gateways = {}
        """Those reached directly, and their gateways."""
        self._netlink = netlink
        self._index = plan.external.index
        self._overlay = plan.network.networks
        self.wanted = wanted
        self._known: dict[IPv4Address | IPv6Address, bool] = {}
        self._forget_at = 0.0
        self._told: Gateways | None = None

    def use_interface(self, index: int) -> None:
        """The external interface has this index now."""
        self._index = index
        self._forget_at = 0.0

    async def find(self, routes: Sequence[Route]) -> None:
        """See which of the routes are direct. Raises OSError."""
        if not self.wanted:
            return
        if time.monotonic() >= self._forget_at:
            self._known.clear()
            self._forget_at = time.monotonic() + MEMORY
        found: Gateways = {}
        for route in routes:
            peer = route.peer
            if peer not in self._known:
                self._known[peer] = await self._netlink.on_link(peer) == self._index
            if self._known[peer]:
                found[route.subnet] = peer
        self.subnets = found

    async def reconcile(self) -> list[str]:
        """Bring the kernel's routes to what find() found; names each repair.

        Raises OSError."""
        if self._told is not None and not self.wanted:
            return []
        steps = await self._netlink.reconcile_peer_routes(
            self.subnets, self._index, self._overlay
        )
        if self.subnets != self._told:  # they are new, and were not repaired
            self._told = self.subnets
            return []
        return steps
