"""The lease table in dual stack, where different keys may share a subnet."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from flannelette.control.lease import Added, Lease, Removed, Snapshot, Subnets
from flannelette.control.table import DelRoute, Ignored, SetRoute
from flannelette.dataplane.forwarder import Route
from tests.helpers.leasetables import (
    OURS,
    OWN,
    OWN6,
    SIX,
    A,
    attrs,
    dual_table,
    to,
    told,
    vtep,
)


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
    plain, dual = Added(Lease(A, attrs(1))), Added(Lease(A, attrs(2), SIX))
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
