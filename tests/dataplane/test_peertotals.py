"""What was counted of each peer, over paths that come and go."""

from __future__ import annotations

from flannelette.dataplane.peertotals import PeerTotals
from flannelette.native.api import PeerCounters

A, B, SIX = (4, 1), (4, 2), (6, 1)
ONE = PeerCounters(1, 4, 1, 100, 2, 200, 30)


def test_in_order_of_address_ipv4_first_and_of_nobody_else() -> None:
    totals = PeerTotals()
    counted = [PeerCounters(1, 6, 7), PeerCounters(9, 4, 9), ONE]
    assert totals.of({SIX, B, A}, counted) == [
        ONE,
        PeerCounters(2, 4),
        PeerCounters(1, 6, 7),
    ]


def test_of_paths_that_ended_and_of_those_that_run() -> None:
    totals = PeerTotals()
    totals.add([ONE])
    assert totals.of([A], []) == [ONE]
    assert totals.of([A], [ONE, ONE]) == [PeerCounters(1, 4, 3, 300, 6, 600, 30)]
    assert totals.of([A], []) == [ONE], "to ask is not to count"


def test_whoever_was_no_peer_for_a_while_begins_at_0() -> None:
    totals = PeerTotals()
    totals.add([ONE])
    totals.keep(lambda: {B})
    assert totals.of([A], []) == [PeerCounters(1, 4)]
