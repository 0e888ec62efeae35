"""IPv6 in both paths, where it is switched on: equal to the twin, packet by packet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.dataplane.routes import RouteTable
from flannelette.encap.drop import Drop
from flannelette.native.api import Direction, Route
from flannelette.native.fastpath import FastPath
from tests.helpers.ipv6 import ROUTE6, addresses6, as6, packet6, packets6, routes6
from tests.helpers.ipv6paths import as_bursts, carrying
from tests.helpers.packets import MTU, frames, packet, routes
from tests.helpers.streams import tcp_packet
from tests.helpers.twins import both, counts, datagrams

# ---- packets -------------------------------------------------------------------------


any_packets = st.lists(st.one_of(frames, packets6(), st.just(packet6())), max_size=8)
changes = st.lists(
    st.tuples(st.booleans(), st.lists(st.one_of(routes, routes6), max_size=6)),
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(changes, any_packets)
def test_wrap(changes: list[tuple[bool, list[Route]]], packets: list[bytes]) -> None:
    with carrying() as (native, python):
        for added, some in changes:
            for path in (native, python):
                (path.set_routes if added else path.del_routes)(some)
        fast, fast_answers = native.wrap(packets, 0)
        pure, pure_answers = python.wrap(packets, 0)
        assert datagrams(fast) == datagrams(pure)
        assert fast_answers == pure_answers
        assert counts(native) == counts(python)


@settings(max_examples=200, deadline=None)
@given(any_packets)
def test_unwrap(packets: list[bytes]) -> None:
    with carrying() as (native, python):
        assert native.unwrap(as_bursts(packets)) == python.unwrap(as_bursts(packets))
        assert counts(native) == counts(python)


def test_a_packet_takes_a_hop_and_nothing_else() -> None:
    """Its padding is left behind; its extension headers are carried as they came."""
    data = as6(tcp_packet(b"abc", ip_options=b"\1" * 4))
    expected = data[:7] + bytes([data[7] - 1]) + data[8:]
    with carrying() as paths:
        for path in paths:
            bursts, _ = path.wrap([data + b"padding"], 0)
            assert [d for _, _, d in datagrams(bursts)] == [expected]
            assert path.unwrap(as_bursts([data + b"padding"])) == [expected]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (packet6()[:39], Drop.SHORT),
        (packet6()[:-1], Drop.BAD_LENGTH),
        (b"\x50" + packet6()[1:], Drop.BAD_VERSION),
        (packet6(hops=1), Drop.TTL_EXPIRED),
        (packet6(hops=0), Drop.TTL_EXPIRED),
        (packet6(destination="fd01::"), Drop.NO_ROUTE),
        (packet6(source="::a00:1", destination="::b00:1"), Drop.NO_ROUTE),
        (packet6(bytes(MTU - 39)), Drop.OVERSIZE),
    ],
)
def test_why_packets_are_dropped(data: bytes, reason: Drop) -> None:
    """Whom it may concern is told (tests/encap/test_icmp6.py knows what)."""
    with carrying() as paths:
        for path in paths:
            bursts, answers = path.wrap([data], 0)
            told = reason in (Drop.NO_ROUTE, Drop.OVERSIZE)
            assert (bursts, len(answers)) == ([], told)
            drops = path.counters(Direction.TX).drops
            assert drops[reason] == sum(drops) == 1


def test_without_being_asked_no_path_carries_ipv6() -> None:
    with both() as paths:
        for path in paths:
            path.set_routes([ROUTE6])
            assert path.wrap([packet6()], 0) == ([], [])
            assert path.unwrap(as_bursts([packet6()])) == []
            for direction in Direction:
                assert path.counters(direction).drops[Drop.BAD_VERSION] == 1


# ---- routes --------------------------------------------------------------------------


def found(path: FastPath, address: int) -> tuple[int, int] | None:
    data = packet6()
    bursts, _ = path.wrap([data[:24] + address.to_bytes(16, "big") + data[40:]], 0)
    return (bursts[0].address, bursts[0].port) if bursts else None


@settings(deadline=None)
@given(
    st.lists(routes6, max_size=40),
    st.lists(routes6, max_size=10),
    st.lists(addresses6, max_size=10),
)
def test_longest_prefix_wins(
    added: list[Route], deleted: list[Route], wanted: list[int]
) -> None:
    """Against the slowest router there is; RouteTable as well."""
    table = RouteTable()
    with both(ipv6=True) as (native, _):
        assert isinstance(native, FastPath)
        for target in (table.set, native.set_routes):
            target(added)
        for target in (table.delete, native.del_routes):
            target(deleted)
        left = {(r.prefix, r.length): r for r in added}
        for route in deleted:
            left.pop((route.prefix, route.length), None)
        for address in [*wanted, *(r.prefix for r in added)]:
            covers = [
                r
                for r in left.values()
                if r.prefix >> 128 - r.length == address >> 128 - r.length
            ]
            best = max(covers, key=lambda r: r.length, default=None)
            assert table.find(address, 6) == best
            assert found(native, address) == (
                (best.address, best.port) if best else None
            )


def test_many_subnets() -> None:
    """Prefixes that differ in few bits, at either end of the halves."""
    with both(ipv6=True) as (native, _):
        assert isinstance(native, FastPath)
        for length in (16, 48, 64, 80, 128):
            step = 1 << 128 - length
            native.set_routes(
                [Route(i * step, length, length, i + 1, 6) for i in range(5000)]
            )
            for i in (0, 1, 2, 77, 4999):
                assert found(native, i * step) == (length, i + 1)
            native.del_routes([Route(i * step, length, 0, 0, 6) for i in range(5000)])
            assert found(native, 77 * step) is None


@pytest.mark.parametrize(
    "wrong",
    [
        Route(1, 127, 1, 1, 6),
        Route(1 << 63, 64, 1, 1, 6),
        Route(1 << 64, 63, 1, 1, 6),
        Route(1, 0, 1, 1, 6),
        Route(0, 129, 1, 1, 6),
        Route(0, 0, 1, 0, 6),
        Route(0, 0, 1, 65536, 6),
    ],
)
def test_no_route(wrong: Route) -> None:
    with both(ipv6=True) as paths:
        for path in paths:
            with pytest.raises(OSError, match=r"Invalid argument|not a route"):
                path.set_routes([ROUTE6, wrong])
            assert path.wrap([packet6()], 0)[0] == []


def test_families_share_nothing() -> None:
    """0.0.0.0/0 is no route for IPv6, nor ::/0 one for IPv4."""
    with both(ipv6=True) as paths:
        for path in paths:
            path.set_routes([Route(0, 0, 4, 4), Route(0, 0, 6, 6, 6)])
            bursts, _ = path.wrap([packet(), packet6()], 0)
            assert [burst.port for burst in bursts] == [4, 6]
            path.del_routes([Route(0, 0, 0, 0)])
            bursts, _ = path.wrap([packet(), packet6()], 0)
            assert [burst.port for burst in bursts] == [6]
