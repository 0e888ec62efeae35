"""The lease table: what the carrier is told of other nodes' leases, in IPv4 alone."""

from __future__ import annotations

from ipaddress import IPv4Network

from flannelette.control.lease import (
    Added,
    Lease,
    Removed,
    Snapshot,
    Subnets,
)
from flannelette.control.table import DelRoute, Ignored
from tests.helpers.leasetables import OURS, OUTSIDE, OWN, US, A, B, attrs, to, told


def ignored(subnet: IPv4Network, reason: str) -> Ignored:
    return Ignored(Subnets(subnet), reason)


def test_a_new_lease_is_a_route() -> None:
    assert told(Added(Lease(A, attrs(1)))) == [to(A, 1)]


def test_a_renewal_changes_nothing() -> None:
    """E22: every peer's renewal arrives as added."""
    assert told(Added(Lease(A, attrs(1))), Added(Lease(A, attrs(1)))) == []


def test_a_peer_that_moved_is_told() -> None:
    """E31: a peer that changed while we were cut off; here by event and snapshot."""
    start, now = Added(Lease(A, attrs(1))), Lease(A, attrs(2))
    assert told(start, Added(now)) == [to(A, 2)]
    assert told(start, Snapshot((now,))) == [to(A, 2)]


def test_what_means_nothing_to_the_backend_is_not_told() -> None:
    start = Added(Lease(A, attrs(1, '"a"')))
    assert told(start, Added(Lease(A, attrs(1, '"b"')))) == []


def test_a_removed_lease_is_told_once() -> None:
    """E26: an unknown subnet is nobody's business."""
    assert told(Added(Lease(A, attrs(1))), Removed(A)) == [DelRoute(A)]
    assert told(Added(Lease(A, attrs(1))), Removed(A), Removed(A)) == []
    assert told(Removed(A)) == []


def test_a_snapshot_tells_differences_removals_first() -> None:
    """E32 has it the other way round; an address must never belong to two."""
    start = Snapshot((Lease(A, attrs(1)),))
    assert told(start, Snapshot((Lease(B, attrs(1)),))) == [
        DelRoute(A),
        to(B, 1),
    ]
    assert told(start, start) == []


def test_an_empty_snapshot_empties_the_table() -> None:
    """H1: it says so, and silence does not."""
    assert told(Added(Lease(A, attrs(1))), Snapshot(())) == [DelRoute(A)]


def test_our_own_lease_never_shows() -> None:
    """E27, E30: whoever holds it, and not on a resync either."""
    own = Lease(OWN, US)
    assert told(Added(own)) == []
    assert told(Added(own), Removed(OWN)) == []
    assert told(Snapshot((own,)), Snapshot(())) == []
    assert told(Added(Lease(OWN, attrs(5)))) == []


def test_a_lease_elsewhere_with_our_public_ip_is_no_route() -> None:
    """Its packets would come back to us, and go round in circles."""
    ours = Lease(A, US)
    assert told(Added(ours)) == [ignored(A, OURS)]
    assert told(Snapshot((ours,))) == [ignored(A, OURS)]
    assert told(Added(ours), Removed(A)) == [], "there is no route to remove"


def test_a_lease_that_becomes_ours_takes_its_route_away() -> None:
    theirs, ours = Lease(A, attrs(1)), Lease(A, US)
    gone = [DelRoute(A), ignored(A, OURS)]
    assert told(Added(theirs), Added(ours)) == gone
    assert told(Added(theirs), Snapshot((ours,))) == gone
    assert told(Added(theirs), Added(ours), Added(theirs)) == [to(A, 1)]
    assert told(Added(ours), Added(theirs), Added(ours)) == gone
    became = Snapshot((Lease(B, attrs(2)), ours))
    assert told(Added(theirs), became) == [
        DelRoute(A),
        to(B, 2),
        ignored(A, OURS),
    ]


def test_a_lease_outside_the_network_is_no_route() -> None:
    """A part of the network is inside; what has the network as a part is not."""
    outside = Lease(OUTSIDE, attrs(1))
    told_once = [ignored(OUTSIDE, "outside the network")]
    assert told(Added(outside)) == told_once
    assert told(Added(outside), Removed(OUTSIDE)) == []
    assert told(Snapshot((outside,)), Snapshot(())) == []
    wide = IPv4Network("0.0.0.0/0")
    assert told(Added(Lease(wide, attrs(1)))) == [ignored(wide, "outside the network")]


def test_what_is_ignored_is_told_once() -> None:
    """For as long as it is there: renewals and resyncs do not tell it again."""
    ours = Lease(A, US)
    assert told(Added(ours), Added(ours)) == []
    assert told(Added(ours), Snapshot((ours,))) == []
    assert told(Added(ours), Added(Lease(A, attrs(9, '"b"')))) == []
    assert told(Added(ours), Removed(A), Added(ours)) == [ignored(A, OURS)]


def test_a_snapshot_with_a_subnet_twice_means_the_last() -> None:
    twice = Snapshot((Lease(A, attrs(1)), Lease(A, US)))
    assert told(twice) == [ignored(A, OURS)]
