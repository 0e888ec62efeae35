"""The lease table after any history: the changes, folded, are what the events said."""

from __future__ import annotations

from ipaddress import IPv6Network

from hypothesis import given, strategies as st

from flannelette.control.backends import choice
from flannelette.control.backends.backend import Routes
from flannelette.control.lease import (
    Added,
    Event,
    Lease,
    LeaseAttrs,
    Removed,
    Snapshot,
    Subnets,
)
from flannelette.control.table import DelRoute, Ignored, SetRoute
from tests.helpers.leasetables import (
    DUAL,
    OUTSIDE,
    OWN,
    OWN6,
    SIX,
    A,
    B,
    attrs,
    dual_table,
    vtep,
)

SIX_B = IPv6Network("fd00:5:0:2::/64")

subnets = st.sampled_from([OWN, OUTSIDE, A, B, *A.subnets(1)])
sixes = st.sampled_from([None, OWN6, SIX, SIX_B, IPv6Network("fd00:6::/64")])
good = st.builds(vtep, st.integers(1, 3))
bad = st.sampled_from([vtep(9), vtep(1, mac=9), attrs(1), attrs(2, "{}")])
leases = st.builds(Lease, subnets, good | bad, sixes)
events: st.SearchStrategy[Event] = st.one_of(
    leases.map(Added),
    st.builds(Removed, subnets, sixes),
    st.lists(leases, max_size=6).map(tuple).map(Snapshot),
)


def claims(model: dict[Subnets, LeaseAttrs], own: Lease) -> tuple[Routes, set[Subnets]]:
    """The routes that these leases mean, said simply, and those that mean none."""
    network, backend = DUAL, choice.from_config(DUAL)
    routes: Routes = {}
    ignored = set()
    usable = []
    for key, held in model.items():
        if key == own.subnets:
            continue
        six = key.v6
        assert network.network6 is not None
        bad = (
            not key.v4.subnet_of(network.network)
            or (six is not None and not six.subnet_of(network.network6))
            or key.v4 == own.subnet
            or (six is not None and six == own.subnet6)
            or held.public_ip == own.attrs.public_ip
            or backend.objection(Lease(key.v4, held, six), own) is not None
        )
        if bad:
            ignored.add(key)
        else:
            usable.append(Lease(key.v4, held, six))
    # The last to claim wins: so those that win come last.
    for lease in sorted(usable, key=lambda it: it.key, reverse=True):
        if lease.subnet6 is None:
            routes |= backend.routes(lease)
    for lease in sorted(usable, key=lambda it: it.key, reverse=True):
        if lease.subnet6 is not None:
            routes |= backend.routes(lease)
    return routes, ignored


@given(st.lists(events, max_size=30))
def test_the_fold_of_the_changes_is_the_fold_of_the_events(
    history: list[Event],
) -> None:
    own = Lease(OWN, vtep(9), OWN6)
    table = dual_table()
    routes: Routes = {}
    ignored: set[Subnets] = set()
    model: dict[Subnets, LeaseAttrs] = {}
    for event in history:
        match event:
            case Added(added):
                model[added.subnets] = added.attrs
            case Removed(v4, v6):
                model.pop(Subnets(v4, v6), None)
            case Snapshot(there):
                model = {each.subnets: each.attrs for each in there}
        wanted, bad = claims(model, own)
        changes = table.apply(event)
        removals = [isinstance(change, DelRoute) for change in changes]
        assert removals == sorted(removals, reverse=True), "removals come first"
        for change in changes:
            match change:
                case SetRoute(subnet, route):
                    assert subnet not in (OWN, OWN6)
                    assert routes.get(subnet) != route, "nothing new was told"
                    routes[subnet] = route
                case DelRoute(subnet):
                    del routes[subnet]  # fails for a route never told
                    assert subnet not in wanted, "it is set again"
        told_now = {each.subnets for each in changes if isinstance(each, Ignored)}
        assert bad - ignored <= told_now <= bad
        ignored = bad
        assert table.ignored.keys() == bad
        assert routes == wanted
