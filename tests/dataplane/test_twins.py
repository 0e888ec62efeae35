"""FastPath and PurePath are twins: equal output, packet by packet, and equal drops."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.encap import ip
from flannelette.encap.drop import Drop
from flannelette.native.api import Burst, Counters, Direction, Route
from tests.helpers.bench import bench, drain
from tests.helpers.packets import MTU, ROUTE, frames, packet, routes
from tests.helpers.twins import both, datagrams

route_changes = st.lists(
    st.tuples(st.sampled_from(["set", "set", "del"]), st.lists(routes, max_size=6)),
    max_size=6,
)


@settings(max_examples=300)
@given(
    route_changes,
    st.lists(st.lists(frames, max_size=8), max_size=3),
    st.integers(68, 1600),
)
def test_wrap(
    changes: list[tuple[str, list[Route]]], batches: list[list[bytes]], mtu: int
) -> None:
    with both(mtu) as (native, python):
        for what, some in changes:
            for path in (native, python):
                (path.set_routes if what == "set" else path.del_routes)(some)
        for now, batch in enumerate(batches):
            fast, fast_answers = native.wrap(batch, now)
            pure, pure_answers = python.wrap(batch, now)
            assert datagrams(fast) == datagrams(pure)
            assert fast_answers == pure_answers
        assert native.counters(Direction.TX) == python.counters(Direction.TX)


bursts = st.builds(
    lambda data, segment: Burst(data, segment, 1, 1),
    st.one_of(frames, st.lists(st.just(packet()), max_size=4).map(b"".join)),
    st.one_of(st.integers(1, 100), st.just(len(packet())), st.just(65507)),
)


@settings(max_examples=300)
@given(st.lists(bursts, max_size=8), st.integers(68, 1600))
def test_unwrap(batch: list[Burst], mtu: int) -> None:
    with both(mtu) as (native, python):
        assert native.unwrap(batch) == python.unwrap(batch)
        assert native.counters(Direction.RX) == python.counters(Direction.RX)


@given(st.lists(st.tuples(st.integers(0, 5 * 10**6), st.integers(1, 80)), max_size=12))
def test_answers_are_limited_alike(turns: list[tuple[int, int]]) -> None:
    with both() as (native, python):
        now = 0
        for gap, count in turns:
            now += gap
            batch = [packet(destination="10.9.9.9")] * count
            assert native.wrap(batch, now) == python.wrap(batch, now)
        assert native.counters(Direction.TX) == python.counters(Direction.TX)


@pytest.mark.parametrize("fragment", [0, ip.DONT_FRAGMENT])
def test_the_mtu_is_the_most_that_passes(fragment: int) -> None:
    """One byte more is dropped, and answered only if it must not be fragmented."""
    for size, passes in ((MTU, True), (MTU + 1, False)):
        frame = packet(payload=bytes(size - 20), fragment=fragment)
        with both() as paths:
            for path in paths:
                path.set_routes([ROUTE])
                bursts, answers = path.wrap([frame], 0)
                assert len(bursts) == passes
                expected = [b"\3\4"] if fragment and not passes else []
                assert [answer[20:22] for answer in answers] == expected
                drops = path.counters(Direction.TX).drops
                assert drops[Drop.OVERSIZE] == sum(drops) == (not passes)


def test_refused_routes_are_refused_by_both() -> None:
    wrong = [
        Route(1, 24, 1, 1),
        Route(0, 33, 1, 1),
        Route(0, 0, 1, 0),
        Route(0, 0, 1, 65536),
    ]
    with both() as paths:
        for path in paths:
            for route in wrong:
                with pytest.raises(OSError) as caught:  # noqa: PT011 (errno says it)
                    path.set_routes([route])
                assert caught.value.errno == errno.EINVAL


# ---- the pumps -----------------------------------------------------------------------


def pumped(
    datapath: str, batch: int, direction: Direction, packets: list[bytes]
) -> tuple[int, list[bytes], list[bytes], Counters]:
    """Packets go in: how many moved, what came to the peer, what to the kernel, and
    what was counted."""
    with bench(datapath, batch) as it:
        for data in packets:
            if direction is Direction.TX:
                it.kernel.send(data)
            else:
                it.peer.sendto(data, it.underlay.getsockname())
        moved = it.path.pump(direction, 1000)
        return moved, drain(it.peer), drain(it.kernel), it.path.counters(direction)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(frames.filter(len), st.just(packet())), max_size=8),
    st.sampled_from([1, 3, 64]),
    st.sampled_from(Direction),
)
def test_pumps(packets: list[bytes], batch: int, direction: Direction) -> None:
    native = pumped("native", batch, direction, packets)
    assert native == pumped("python", batch, direction, packets)


def test_an_oversize_datagram_is_counted_not_cut_u13() -> None:
    for datapath in ("native", "python"):
        packets = [packet(payload=bytes(size)) for size in (MTU - 19, 9000, MTU - 20)]
        moved, _, written, counters = pumped(datapath, 64, Direction.RX, packets)
        assert moved == 3
        assert [len(frame) for frame in written] == [MTU]
        assert counters.drops[Drop.OVERSIZE] == 2


def test_budget_bounds_a_pump() -> None:
    for datapath in ("native", "python"):
        with bench(datapath, 64) as it:
            for _ in range(8):
                it.kernel.send(packet())
            assert it.path.pump(Direction.TX, 5) == 5
            assert it.path.pump(Direction.TX, 5) == 3
