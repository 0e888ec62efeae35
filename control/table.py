"""The lease table: events in, route changes out. Pure.

It remembers what was told, so that a Snapshot yields only differences, in what a lease
means too (flanneld compares subnets alone and misses it: E31), and our own lease never
becomes a route (E27, E30). Nor does a lease that could only do harm: one outside the
network takes what other leases hold, or nobody does; one on a part of our subnet takes
our own pods' addresses, being the longer prefix; one with our public IP would send
packets to ourselves, and round in circles.

A lease is its key: an IPv4 subnet, in dual stack with an IPv6 one. Nothing keeps two
keys from sharing one of their subnets, as when a cluster changes to dual stack. Each
lease then claims its subnets; of several claims to a subnet that of a lease which fits
the network goes first, and when one goes away the next has the subnet at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flannelette.control.backends.backend import Backend, Routes, Subnet
from flannelette.control.lease import (
    Added,
    Event,
    Lease,
    Removed,
    Snapshot,
    Subnets,
    subnet_key,
)
from flannelette.control.netconfig import NetworkConfig
from flannelette.dataplane.forwarder import Route


@dataclass(frozen=True, slots=True)
class SetRoute:
    """Reach the subnet so."""

    subnet: Subnet
    route: Route


@dataclass(frozen=True, slots=True)
class DelRoute:
    subnet: Subnet


@dataclass(frozen=True, slots=True)
class Ignored:
    """A lease is there, and is no route; told once for as long as that is so."""

    subnets: Subnets
    reason: str


Change = SetRoute | DelRoute | Ignored


class LeaseTable:
    """All peers' leases, as the events so far describe them."""

    def __init__(self, own: Lease, network: NetworkConfig, backend: Backend) -> None:
        """`own` is our own lease."""
        self.ignored: dict[Subnets, str] = {}
        """Leases that are no routes, and why."""
        self._own = own
        self._network = network
        self._backend = backend
        self._peers: dict[Subnets, Routes] = {}
        """What each lease claims."""
        self._claims: dict[Subnet, dict[Subnets, Route]] = {}
        """The same by subnet."""
        self._told: Routes = {}

    def __len__(self) -> int:
        """Peers that claim subnets."""
        return len(self._peers)

    def apply(self, event: Event) -> list[Change]:
        """Take in one event; the changes that follow, removals before additions."""
        ignored: list[Ignored] = []
        touched: dict[Subnet, None] = {}  # in order, and each once
        match event:
            case Added(lease):
                leases: Iterable[Lease] = (lease,)
            case Removed():
                leases = ()
                self._forget(Subnets(event.subnet, event.subnet6), touched)
            case Snapshot():
                leases = {lease.subnets: lease for lease in event.leases}.values()
                there = {lease.subnets for lease in leases}
                for key in [*self._peers, *self.ignored]:
                    if key not in there:
                        self._forget(key, touched)
        for lease in leases:
            ignored += self._take(lease, touched)
        changes = [change for subnet in touched for change in self._settle(subnet)]
        changes.sort(key=lambda change: not isinstance(change, DelRoute))
        return [*changes, *ignored]

    def _take(self, lease: Lease, touched: dict[Subnet, None]) -> list[Ignored]:
        key = lease.subnets
        if key == self._own.subnets:
            return []
        reason = self._objection(lease)
        if reason is None:
            self.ignored.pop(key, None)
            self._claim(key, self._backend.routes(lease), touched)
            return []
        if self.ignored.get(key) == reason:
            return []
        self._forget(key, touched)
        self.ignored[key] = reason
        return [Ignored(key, reason)]

    def _objection(self, lease: Lease) -> str | None:
        """Why such a lease is no route; None if it is one."""
        own, six = self._own, self._network.network6
        if not lease.subnet.subnet_of(self._network.network):
            return "outside the network"
        if six is not None and lease.subnet6 is not None:
            if not lease.subnet6.subnet_of(six):
                return "outside the network"
            if own.subnet6 is not None and lease.subnet6.subnet_of(own.subnet6):
                return "our own subnet"
            if _same(lease.attrs.public_ipv6, own.attrs.public_ipv6):
                return "our own public IP"
        if lease.subnet.subnet_of(own.subnet):
            return "our own subnet"
        if lease.attrs.public_ip == own.attrs.public_ip:
            return "our own public IP"
        return self._backend.objection(lease, own)

    def _forget(self, key: Subnets, touched: dict[Subnet, None]) -> None:
        self.ignored.pop(key, None)
        self._claim(key, {}, touched)

    def _claim(self, key: Subnets, routes: Routes, touched: dict[Subnet, None]) -> None:
        """The lease claims these subnets, and no others."""
        for subnet in self._peers.pop(key, {}):
            touched[subnet] = None
            del self._claims[subnet][key]
        for subnet, route in routes.items():
            touched[subnet] = None
            self._claims.setdefault(subnet, {})[key] = route
        if routes:
            self._peers[key] = routes

    def _settle(self, subnet: Subnet) -> list[Change]:
        """Tell whose the subnet is, if that is new."""
        claims = self._claims[subnet]
        if not claims:
            del self._claims[subnet]
            return [DelRoute(subnet)] if self._told.pop(subnet, None) else []
        route = claims[min(claims, key=self._rank)]
        if self._told.get(subnet) == route:
            return []
        self._told[subnet] = route
        return [SetRoute(subnet, route)]

    def _rank(self, key: Subnets) -> tuple[bool, str]:
        """Who goes first: a lease of the network's own kind; then whoever, but it must
        not depend on the order of events."""
        fits = (key.v6 is not None) == (self._network.network6 is not None)
        return not fits, subnet_key(*key)


def _same(one: object, other: object) -> bool:
    return one is not None and one == other
