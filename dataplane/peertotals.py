"""What was counted of each peer, over paths that come and go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from flannelette.native.api import PeerCounters

Peer = tuple[int, int]
"""The IP version of a peer's address, and the address."""


class PeerTotals:
    """Keeps what paths that have ended counted."""

    def __init__(self) -> None:
        self._ended: dict[Peer, PeerCounters] = {}

    def add(self, counted: Iterable[PeerCounters]) -> None:
        """Of a path that ends."""
        _add(self._ended, counted)

    def keep(self, peers: Callable[[], Collection[Peer]]) -> None:
        """Forget all others: whoever is a peer again begins at 0, as in the paths.
        Nobody is asked for the peers before a path has ended."""
        if self._ended:
            known = peers()
            self._ended = {
                peer: counted for peer, counted in self._ended.items() if peer in known
            }

    def of(
        self, peers: Iterable[Peer], counted: Iterable[PeerCounters]
    ) -> list[PeerCounters]:
        """Of these peers, with what the paths have counted that have not ended; in
        order of address, IPv4 first."""
        totals = dict(self._ended)
        _add(totals, counted)
        return [
            totals.get((outer, address)) or PeerCounters(address, outer)
            for outer, address in sorted(peers)
        ]


def _add(totals: dict[Peer, PeerCounters], counted: Iterable[PeerCounters]) -> None:
    for one in counted:
        peer = one.outer, one.address
        totals[peer] = totals[peer].plus(one) if peer in totals else one
