"""The lease table: what the backend is told, folded, is what the events said."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given, strategies as st

from flannelette.control.lease import (
    Added,
    Event,
    Lease,
    LeaseAttrs,
    Removed,
    Snapshot,
)
from flannelette.control.table import Change, DelRoute, Ignored, LeaseTable, SetRoute

NETWORK = IPv4Network("10.5.0.0/16")
OWN = IPv4Network("10.5.0.0/24")
OUTSIDE = IPv4Network("10.6.0.0/24")
A, B = IPv4Network("10.5.1.0/24"), IPv4Network("10.5.2.0/24")


def attrs(last: int, mac: str | None = None) -> LeaseAttrs:
    return LeaseAttrs(IPv4Address(f"192.0.2.{last}"), backend_data=mac)


def lease(subnet: IPv4Network, held: LeaseAttrs) -> Lease:
    return Lease(subnet, held)


US = attrs(9)
OURS = "our own public IP"


def make_table() -> LeaseTable:
    return LeaseTable(OWN, US.public_ip, NETWORK)


def told(*events: Event) -> list[Change]:
    """What the last of the events changes."""
    table = make_table()
    changes: list[Change] = []
    for event in events:
        changes = table.apply(event)
    return changes


def test_a_new_lease_is_a_route() -> None:
    assert told(Added(lease(A, attrs(1)))) == [SetRoute(A, attrs(1))]


def test_a_renewal_changes_nothing() -> None:
    """E22: every peer's renewal arrives as added."""
    assert told(Added(lease(A, attrs(1))), Added(lease(A, attrs(1)))) == []


def test_changed_attributes_are_told() -> None:
    """E31: a peer that changed while we were cut off; here by event and snapshot."""
    start, now = Added(lease(A, attrs(1, '"a"'))), lease(A, attrs(1, '"b"'))
    assert told(start, Added(now)) == [SetRoute(A, now.attrs)]
    assert told(start, Snapshot((now,))) == [SetRoute(A, now.attrs)]


def test_a_removed_lease_is_told_once() -> None:
    """E26: an unknown subnet is nobody's business."""
    assert told(Added(lease(A, attrs(1))), Removed(A)) == [DelRoute(A)]
    assert told(Added(lease(A, attrs(1))), Removed(A), Removed(A)) == []
    assert told(Removed(A)) == []


def test_a_snapshot_tells_differences_removals_first() -> None:
    """E32 has it the other way round; an address must never belong to two."""
    start = Snapshot((lease(A, attrs(1)),))
    assert told(start, Snapshot((lease(B, attrs(1)),))) == [
        DelRoute(A),
        SetRoute(B, attrs(1)),
    ]
    assert told(start, start) == []


def test_an_empty_snapshot_empties_the_table() -> None:
    """H1: it says so, and silence does not."""
    assert told(Added(lease(A, attrs(1))), Snapshot(())) == [DelRoute(A)]


def test_our_own_lease_never_shows() -> None:
    """E27, E30: whoever holds it, and not on a resync either."""
    own = lease(OWN, US)
    assert told(Added(own)) == []
    assert told(Added(own), Removed(OWN)) == []
    assert told(Snapshot((own,)), Snapshot(())) == []
    assert told(Added(lease(OWN, attrs(5)))) == []


def test_a_lease_elsewhere_with_our_public_ip_is_no_route() -> None:
    """Its packets would come back to us, and go round in circles."""
    ours = lease(A, US)
    assert told(Added(ours)) == [Ignored(A, OURS)]
    assert told(Snapshot((ours,))) == [Ignored(A, OURS)]
    assert told(Added(ours), Removed(A)) == [], "there is no route to remove"


def test_a_lease_that_becomes_ours_takes_its_route_away() -> None:
    theirs, ours = lease(A, attrs(1)), lease(A, US)
    gone = [DelRoute(A), Ignored(A, OURS)]
    assert told(Added(theirs), Added(ours)) == gone
    assert told(Added(theirs), Snapshot((ours,))) == gone
    assert told(Added(theirs), Added(ours), Added(theirs)) == [SetRoute(A, attrs(1))]
    assert told(Added(ours), Added(theirs), Added(ours)) == gone
    became = Snapshot((lease(B, attrs(2)), ours))
    assert told(Added(theirs), became) == [
        DelRoute(A),
        SetRoute(B, attrs(2)),
        Ignored(A, OURS),
    ]


def test_a_lease_outside_the_network_is_no_route() -> None:
    """A part of the network is inside; what has the network as a part is not."""
    outside = lease(OUTSIDE, attrs(1))
    told_once = [Ignored(OUTSIDE, "outside the network")]
    assert told(Added(outside)) == told_once
    assert told(Added(outside), Removed(OUTSIDE)) == []
    assert told(Snapshot((outside,)), Snapshot(())) == []
    wide = IPv4Network("0.0.0.0/0")
    assert told(Added(lease(wide, attrs(1)))) == [Ignored(wide, "outside the network")]


def test_what_is_ignored_is_told_once() -> None:
    """For as long as it is there: renewals and resyncs do not tell it again."""
    ours = lease(A, US)
    assert told(Added(ours), Added(ours)) == []
    assert told(Added(ours), Snapshot((ours,))) == []
    assert told(Added(ours), Added(lease(A, attrs(9, '"b"')))) == []
    assert told(Added(ours), Removed(A), Added(ours)) == [Ignored(A, OURS)]


def test_a_snapshot_with_a_subnet_twice_means_the_last() -> None:
    twice = Snapshot((lease(A, attrs(1)), lease(A, US)))
    assert told(twice) == [Ignored(A, OURS)]


subnets = st.sampled_from(
    [OWN, OUTSIDE, *(IPv4Network(f"10.5.{n}.0/24") for n in range(1, 6))]
)
leases = st.builds(lease, subnets, st.builds(attrs, st.sampled_from([1, 2, 9])))
events: st.SearchStrategy[Event] = st.one_of(
    leases.map(Added),
    subnets.map(Removed),
    st.lists(leases, max_size=6).map(tuple).map(Snapshot),
)


@given(st.lists(events, max_size=30))
def test_the_fold_of_the_changes_is_the_fold_of_the_events(
    history: list[Event],
) -> None:
    table = make_table()
    routes: dict[IPv4Network, LeaseAttrs] = {}
    ignored: set[IPv4Network] = set()
    model: dict[IPv4Network, LeaseAttrs] = {}
    for event in history:
        match event:
            case Added(added):
                model[added.subnet] = added.attrs
            case Removed(subnet):
                model.pop(subnet, None)
            case Snapshot(there):
                model = {each.subnet: each.attrs for each in there}
        model.pop(OWN, None)
        bad = {subnet for subnet in model if model[subnet] == US or subnet == OUTSIDE}
        changes = table.apply(event)
        removals = [isinstance(change, DelRoute) for change in changes]
        assert removals == sorted(removals, reverse=True), "removals come first"
        for change in changes:
            assert change.subnet != OWN
            match change:
                case SetRoute(subnet, held):
                    assert routes.get(subnet) != held, "nothing new was told"
                    routes[subnet] = held
                case DelRoute(subnet):
                    del routes[subnet]  # fails for a route never told
        told_now = {each.subnet for each in changes if isinstance(each, Ignored)}
        assert told_now == bad - ignored, "each is told once"
        ignored = bad
        assert routes == {subnet: model[subnet] for subnet in model.keys() - bad}
