"""The lease table: what the carrier is told, folded, is what the events said."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

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
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.table import Change, DelRoute, Ignored, LeaseTable, SetRoute
from flannelette.dataplane.forwarder import Route

NETWORK = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
DUAL = NetworkConfig.parse(
    '{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48",'
    ' "Backend": {"Type": "vxlan"}}'
)
OWN = IPv4Network("10.5.0.0/24")
OUTSIDE = IPv4Network("10.6.0.0/24")
A, B = IPv4Network("10.5.1.0/24"), IPv4Network("10.5.2.0/24")


def attrs(last: int, data: str | None = None) -> LeaseAttrs:
    return LeaseAttrs(IPv4Address(f"192.0.2.{last}"), backend_data=data)


def lease(subnet: IPv4Network, held: LeaseAttrs) -> Lease:
    return Lease(subnet, held)


US = attrs(9)
OURS = "our own public IP"


def make_table() -> LeaseTable:
    return LeaseTable(lease(OWN, US), NETWORK, choice.from_config(NETWORK))


def to(subnet: IPv4Network, last: int) -> SetRoute:
    """How udp reaches it."""
    return SetRoute(subnet, Route.to(subnet, attrs(last).public_ip, 8285))


def ignored(subnet: IPv4Network, reason: str) -> Ignored:
    return Ignored(Subnets(subnet), reason)


def told(*events: Event, table: LeaseTable | None = None) -> list[Change]:
    """What the last of the events changes."""
    table = make_table() if table is None else table
    changes: list[Change] = []
    for event in events:
        changes = table.apply(event)
    return changes


def test_a_new_lease_is_a_route() -> None:
    assert told(Added(lease(A, attrs(1)))) == [to(A, 1)]


def test_a_renewal_changes_nothing() -> None:
    """E22: every peer's renewal arrives as added."""
    assert told(Added(lease(A, attrs(1))), Added(lease(A, attrs(1)))) == []


def test_a_peer_that_moved_is_told() -> None:
    """E31: a peer that changed while we were cut off; here by event and snapshot."""
    start, now = Added(lease(A, attrs(1))), lease(A, attrs(2))
    assert told(start, Added(now)) == [to(A, 2)]
    assert told(start, Snapshot((now,))) == [to(A, 2)]


def test_what_means_nothing_to_the_backend_is_not_told() -> None:
    start = Added(lease(A, attrs(1, '"a"')))
    assert told(start, Added(lease(A, attrs(1, '"b"')))) == []


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
        to(B, 1),
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
    assert told(Added(ours)) == [ignored(A, OURS)]
    assert told(Snapshot((ours,))) == [ignored(A, OURS)]
    assert told(Added(ours), Removed(A)) == [], "there is no route to remove"


def test_a_lease_that_becomes_ours_takes_its_route_away() -> None:
    theirs, ours = lease(A, attrs(1)), lease(A, US)
    gone = [DelRoute(A), ignored(A, OURS)]
    assert told(Added(theirs), Added(ours)) == gone
    assert told(Added(theirs), Snapshot((ours,))) == gone
    assert told(Added(theirs), Added(ours), Added(theirs)) == [to(A, 1)]
    assert told(Added(ours), Added(theirs), Added(ours)) == gone
    became = Snapshot((lease(B, attrs(2)), ours))
    assert told(Added(theirs), became) == [
        DelRoute(A),
        to(B, 2),
        ignored(A, OURS),
    ]


def test_a_lease_outside_the_network_is_no_route() -> None:
    """A part of the network is inside; what has the network as a part is not."""
    outside = lease(OUTSIDE, attrs(1))
    told_once = [ignored(OUTSIDE, "outside the network")]
    assert told(Added(outside)) == told_once
    assert told(Added(outside), Removed(OUTSIDE)) == []
    assert told(Snapshot((outside,)), Snapshot(())) == []
    wide = IPv4Network("0.0.0.0/0")
    assert told(Added(lease(wide, attrs(1)))) == [ignored(wide, "outside the network")]


def test_what_is_ignored_is_told_once() -> None:
    """For as long as it is there: renewals and resyncs do not tell it again."""
    ours = lease(A, US)
    assert told(Added(ours), Added(ours)) == []
    assert told(Added(ours), Snapshot((ours,))) == []
    assert told(Added(ours), Added(lease(A, attrs(9, '"b"')))) == []
    assert told(Added(ours), Removed(A), Added(ours)) == [ignored(A, OURS)]


def test_a_snapshot_with_a_subnet_twice_means_the_last() -> None:
    twice = Snapshot((lease(A, attrs(1)), lease(A, US)))
    assert told(twice) == [ignored(A, OURS)]


# ---- dual stack: keys that share a subnet ------------------------------------------

SIX = IPv6Network("fd00:5:0:1::/64")
SIX_B = IPv6Network("fd00:5:0:2::/64")
OWN6 = IPv6Network("fd00:5::/64")


def vtep(last: int, mac: int | None = None, six: int | None = None) -> LeaseAttrs:
    """What a vxlan node writes; `mac` and `six` differ from its number when it lies."""
    data = f'{{"VNI":1,"VtepMAC":"02:00:00:00:00:{mac or last:02x}"}}'
    return LeaseAttrs(
        IPv4Address(f"192.0.2.{last}"),
        IPv6Address(f"2001:db8::{six or last}"),
        "vxlan",
        data,
        data,
    )


def dual_table() -> LeaseTable:
    return LeaseTable(Lease(OWN, vtep(9), OWN6), DUAL, choice.from_config(DUAL))


def v4(subnet: IPv4Network, last: int) -> SetRoute:
    mac = 0x020000000000 + last
    return SetRoute(subnet, Route.to(subnet, vtep(last).public_ip, 8472, mac))


def v6(subnet: IPv6Network, last: int) -> SetRoute:
    mac = 0x020000000000 + last
    return SetRoute(subnet, Route.to(subnet, vtep(last).public_ipv6, 8472, mac))


OLD = Added(Lease(A, vtep(1)))
NEW = Added(Lease(A, vtep(2), SIX))


def test_both_subnets_of_a_lease_are_routes() -> None:
    assert told(NEW, table=dual_table()) == [v4(A, 2), v6(SIX, 2)]
    assert told(NEW, Removed(A, SIX), table=dual_table()) == [
        DelRoute(A),
        DelRoute(SIX),
    ]
    assert told(NEW, Removed(A), table=dual_table()) == [], "that is another key"


def test_of_two_keys_with_one_subnet_the_network_s_own_kind_has_it() -> None:
    """Whatever came first; and who is left has it when the other goes."""
    assert told(OLD, NEW, table=dual_table()) == [v4(A, 2), v6(SIX, 2)]
    assert told(NEW, OLD, table=dual_table()) == []
    for events in ((OLD, NEW), (NEW, OLD)):
        assert told(*events, Removed(A), table=dual_table()) == []
        assert told(*events, Removed(A, SIX), table=dual_table()) == [
            DelRoute(SIX),
            v4(A, 1),
        ]


def test_in_a_network_of_ipv4_alone_the_plain_key_has_it() -> None:
    """And the other one's IPv6 subnet is nobody's business there (H2)."""
    plain, dual = Added(lease(A, attrs(1))), Added(Lease(A, attrs(2), SIX))
    assert told(dual) == [to(A, 2)]
    assert told(dual, plain) == [to(A, 1)]
    assert told(plain, dual) == []
    assert told(plain, dual, Removed(A)) == [to(A, 2)]
    assert told(plain, dual, Removed(A, SIX)) == []


def test_a_lease_that_changes_hands_in_a_snapshot_is_never_without_route() -> None:
    there = Snapshot((Lease(A, vtep(1)), Lease(A, vtep(2), SIX)))
    left = Snapshot((Lease(A, vtep(1)),))
    assert told(there, left, table=dual_table()) == [DelRoute(SIX), v4(A, 1)]


def test_whoever_shares_a_subnet_with_us_is_ignored() -> None:
    key, why = Subnets(OWN, SIX), "our own subnet"
    assert told(Added(Lease(OWN, vtep(1), SIX)), table=dual_table()) == [
        Ignored(key, why)
    ]
    assert told(Added(Lease(OWN, vtep(1))), table=dual_table()) == [
        Ignored(Subnets(OWN), why)
    ]
    assert told(Added(Lease(A, vtep(1), OWN6)), table=dual_table()) == [
        Ignored(Subnets(A, OWN6), why)
    ]
    assert told(Added(Lease(OWN, vtep(1), OWN6)), table=dual_table()) == []


def test_a_part_of_our_subnet_is_ours() -> None:
    """The kernel would send our own pods' packets there: it is the longer prefix."""
    part, part6 = [*OWN.subnets()][1], [*OWN6.subnets()][1]
    for subnet, six in ((part, None), (part, SIX), (A, part6)):
        lease = Lease(subnet, vtep(1), six)
        assert told(Added(lease), table=dual_table()) == [
            Ignored(lease.subnets, "our own subnet")
        ]
    whole = OWN.supernet()
    assert told(Added(Lease(whole, attrs(1)))) == [to(whole, 1)], "ours go first"


def test_an_ipv6_subnet_outside_the_network_and_our_ipv6_address() -> None:
    outside = IPv6Network("fd00:6::/64")
    assert told(Added(Lease(A, vtep(1), outside)), table=dual_table()) == [
        Ignored(Subnets(A, outside), "outside the network")
    ]
    assert told(Added(Lease(A, vtep(1, six=9), SIX)), table=dual_table()) == [
        Ignored(Subnets(A, SIX), OURS)
    ]


def test_the_backend_s_objections_are_told_once_and_can_be_seen() -> None:
    """A peer with our MAC could not be sent anything."""
    table = dual_table()
    twin = Added(Lease(A, vtep(1, mac=9), SIX))
    assert told(twin, table=table) == [Ignored(Subnets(A, SIX), "our own MAC")]
    assert told(twin, twin, table=table) == []
    assert table.ignored == {Subnets(A, SIX): "our own MAC"}
    assert told(Added(Lease(A, vtep(1), SIX)), table=table) == [v4(A, 1), v6(SIX, 1)]
    assert table.ignored == {}


# ---- any history -------------------------------------------------------------------

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
