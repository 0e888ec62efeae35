"""The lease table: events in, route changes out. Pure.

It remembers what the backend was told, so that a Snapshot yields only differences, in
attributes too (flanneld compares subnets alone and misses them: E31), and our own
lease never becomes a route (E27, E30).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from flannelette.control.lease import Added, Event, LeaseAttrs, Removed, Snapshot


@dataclass(frozen=True, slots=True)
class SetRoute:
    """Reach subnet by the node that these attributes describe."""

    subnet: IPv4Network
    attrs: LeaseAttrs


@dataclass(frozen=True, slots=True)
class DelRoute:
    subnet: IPv4Network


Change = SetRoute | DelRoute


class LeaseTable:
    """All peers' leases, as the events so far describe them."""

    def __init__(self, own: IPv4Network) -> None:
        self._own = own
        self._peers: dict[IPv4Network, LeaseAttrs] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def apply(self, event: Event) -> list[Change]:
        """Take in one event; the changes that follow, removals before additions."""
        match event:
            case Added(lease):
                return self._set(lease.subnet, lease.attrs)
            case Removed(subnet):
                return self._del(subnet)
            case Snapshot(leases):
                there = {lease.subnet for lease in leases}
                gone = [subnet for subnet in self._peers if subnet not in there]
                changes = [change for subnet in gone for change in self._del(subnet)]
                for lease in leases:
                    changes += self._set(lease.subnet, lease.attrs)
                return changes

    def _set(self, subnet: IPv4Network, attrs: LeaseAttrs) -> list[Change]:
        if subnet == self._own or self._peers.get(subnet) == attrs:
            return []
        self._peers[subnet] = attrs
        return [SetRoute(subnet, attrs)]

    def _del(self, subnet: IPv4Network) -> list[Change]:
        if self._peers.pop(subnet, None) is None:
            return []
        return [DelRoute(subnet)]
