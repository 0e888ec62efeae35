"""The lease table: events in, route changes out. Pure.

It remembers what the backend was told, so that a Snapshot yields only differences, in
attributes too (flanneld compares subnets alone and misses them: E31), and our own
lease never becomes a route (E27, E30). Nor does a lease that could only do harm: one
outside the network takes what other leases hold, or nobody does; one with our public
IP would send packets to ourselves, and round in circles.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from flannelette.control.lease import Added, Event, LeaseAttrs, Removed, Snapshot


@dataclass(frozen=True, slots=True)
class SetRoute:
    """Reach subnet by the node that these attributes describe."""

    subnet: IPv4Network
    attrs: LeaseAttrs


@dataclass(frozen=True, slots=True)
class DelRoute:
    subnet: IPv4Network


@dataclass(frozen=True, slots=True)
class Ignored:
    """A lease is there, and is no route; told once for as long as that is so."""

    subnet: IPv4Network
    reason: str


Change = SetRoute | DelRoute | Ignored


class LeaseTable:
    """All peers' leases, as the events so far describe them."""

    def __init__(
        self, own: IPv4Network, public_ip: IPv4Address, network: IPv4Network
    ) -> None:
        """`own` and `public_ip` are of our own lease."""
        self._own = own
        self._public_ip = public_ip
        self._network = network
        self._peers: dict[IPv4Network, LeaseAttrs] = {}
        self._ignored: dict[IPv4Network, str] = {}

    def apply(self, event: Event) -> list[Change]:
        """Take in one event; the changes that follow, removals before additions."""
        match event:
            case Added(lease):
                return self._set(lease.subnet, lease.attrs)
            case Removed(subnet):
                return self._del(subnet)
            case Snapshot(leases):
                return self._replace({lease.subnet: lease.attrs for lease in leases})

    def _replace(self, there: dict[IPv4Network, LeaseAttrs]) -> list[Change]:
        changes: list[Change] = []
        for subnet in [*self._peers, *self._ignored]:
            if subnet not in there:
                changes += self._del(subnet)
        for subnet, attrs in there.items():
            changes += self._set(subnet, attrs)
        # A lease that turned bad is removed late; `sorted` keeps all other order.
        return sorted(changes, key=lambda change: not isinstance(change, DelRoute))

    def _set(self, subnet: IPv4Network, attrs: LeaseAttrs) -> list[Change]:
        if subnet == self._own or self._peers.get(subnet) == attrs:
            return []
        reason = self._objection(subnet, attrs)
        if reason is None:
            self._ignored.pop(subnet, None)
            self._peers[subnet] = attrs
            return [SetRoute(subnet, attrs)]
        if self._ignored.get(subnet) == reason:
            return []
        removed = self._del(subnet)
        self._ignored[subnet] = reason
        return [*removed, Ignored(subnet, reason)]

    def _objection(self, subnet: IPv4Network, attrs: LeaseAttrs) -> str | None:
        """Why such a lease is no route; None if it is one."""
        if not subnet.subnet_of(self._network):
            return "outside the network"
        if attrs.public_ip == self._public_ip:
            return "our own public IP"
        return None

    def _del(self, subnet: IPv4Network) -> list[Change]:
        self._ignored.pop(subnet, None)
        if self._peers.pop(subnet, None) is None:
            return []
        return [DelRoute(subnet)]
