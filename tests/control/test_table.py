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
from flannelette.control.table import Change, DelRoute, LeaseTable, SetRoute

OWN = IPv4Network("10.5.0.0/24")
A, B = IPv4Network("10.5.1.0/24"), IPv4Network("10.5.2.0/24")


def attrs(last: int, mac: str | None = None) -> LeaseAttrs:
    return LeaseAttrs(IPv4Address(f"192.0.2.{last}"), backend_data=mac)


def lease(subnet: IPv4Network, held: LeaseAttrs) -> Lease:
    return Lease(subnet, held)


def told(*events: Event) -> list[Change]:
    """What the last of the events changes."""
    table = LeaseTable(OWN)
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
    """E27, E30: by subnet, not by public IP, and not on a resync either."""
    own = lease(OWN, attrs(9))
    assert told(Added(own)) == []
    assert told(Added(own), Removed(OWN)) == []
    assert told(Snapshot((own,)), Snapshot(())) == []
    assert told(Added(lease(OWN, attrs(5)))) == []
    assert told(Added(lease(A, attrs(9)))) == [SetRoute(A, attrs(9))]


subnets = st.sampled_from([OWN, *(IPv4Network(f"10.5.{n}.0/24") for n in range(1, 6))])
leases = st.builds(lease, subnets, st.builds(attrs, st.integers(1, 3)))
events: st.SearchStrategy[Event] = st.one_of(
    leases.map(Added),
    subnets.map(Removed),
    st.lists(leases, max_size=6).map(tuple).map(Snapshot),
)


@given(st.lists(events, max_size=30))
def test_the_fold_of_the_changes_is_the_fold_of_the_events(
    history: list[Event],
) -> None:
    table = LeaseTable(OWN)
    routes: dict[IPv4Network, LeaseAttrs] = {}
    model: dict[IPv4Network, LeaseAttrs] = {}
    for event in history:
        for change in table.apply(event):
            assert change.subnet != OWN
            match change:
                case SetRoute(subnet, held):
                    assert routes.get(subnet) != held, "nothing new was told"
                    routes[subnet] = held
                case DelRoute(subnet):
                    del routes[subnet]  # fails for a route never told
        match event:
            case Added(added):
                model[added.subnet] = added.attrs
            case Removed(subnet):
                model.pop(subnet, None)
            case Snapshot(there):
                model = {each.subnet: each.attrs for each in there}
        model.pop(OWN, None)
        assert routes == model
        assert len(table) == len(model)
