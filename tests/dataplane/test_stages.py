"""The time of each stage is taken in some rounds if it is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from flannelette.dataplane.path import Path, open_path
from flannelette.native.api import Counters, Direction, Offload, PeerCheck, Stage
from tests.helpers.bench import Bench, bench, drain
from tests.helpers.packets import packet
from tests.helpers.streams import udp_packet

TX = {Stage.READ, Stage.LOOKUP, Stage.SPLIT, Stage.SEND}
RX = {Stage.RECEIVE, Stage.CHECK, Stage.CHECKSUM, Stage.MERGE, Stage.WRITE}
STAGES = {Direction.TX: TX | {Stage.WRITE}, Direction.RX: RX}
MERGES = Offload.VNET | Offload.MERGE_UDP
LONG = udp_packet(bytes(1400))
MANY = 50
"""Rounds: of so many no stage is over before the clock has moved."""


@contextmanager
def timed(
    every: int, batch: int = 64, datapath: str = "native", offloads: Offload = MERGES
) -> Iterator[tuple[Bench, Path]]:
    if datapath == "python":
        offloads = Offload(0)
    with bench(batch=batch) as it:
        config = replace(
            it.config,
            offloads=offloads,
            time_stages=every,
            peer_check=PeerCheck.PEER,
        )
        with closing(open_path(datapath, config)) as path:
            path.set_routes([it.route])
            yield it, path


def give(it: Bench, direction: Direction, data: bytes = LONG) -> None:
    if direction is Direction.RX:
        it.peer.sendto(data, it.underlay.getsockname())
    else:
        vnet = bytes(10)
        it.kernel.send(vnet + data)


def taken(counters: Counters) -> set[Stage]:
    return {stage for stage in Stage if counters.stages[stage]}


@pytest.mark.parametrize("direction", Direction)
def test_every_stage_has_its_time_and_all_together_no_more_than_went_by(
    direction: Direction,
) -> None:
    with timed(1) as (it, path):
        before = time.monotonic_ns()
        for _ in range(MANY):
            give(it, direction)
            give(it, direction, packet(destination="10.9.9.9"))  # answered
            path.pump(direction, 100)
            drain(it.kernel)
        passed = time.monotonic_ns() - before
        counters = path.counters(direction)
        assert taken(counters) == STAGES[direction]
        assert 0 < sum(counters.stages) < passed
        assert counters.timed_packets == counters.packets >= MANY
        assert counters.timed_rounds == MANY
        (other,) = set(Direction) - {direction}
        assert path.counters(other) == Counters.zero(len(counters.drops))


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize(("every", "rounds"), [(0, 0), (1, 24), (3, 8), (25, 0)])
def test_one_round_of_so_many(direction: Direction, every: int, rounds: int) -> None:
    """A round is a batch."""
    with timed(every, batch=2) as (it, path):
        for _ in range(12):
            for _ in range(4):
                give(it, direction)
            path.pump(direction, 4)
        counters = path.counters(direction)
        assert counters.packets == 48
        assert counters.timed_rounds == rounds
        assert counters.timed_packets == 2 * rounds
        assert bool(taken(counters)) == bool(rounds)


def test_a_round_without_packets_has_one_stage() -> None:
    """A receive that found nothing is nothing but that."""
    with timed(1) as (_, path):
        for _ in range(MANY):
            path.pump(Direction.RX, 100)
        assert taken(path.counters(Direction.RX)) == {Stage.RECEIVE}
        for _ in range(MANY):
            path.pump(Direction.TX, 100)
        assert taken(path.counters(Direction.TX)) == {Stage.READ}


def test_purepath_takes_no_time() -> None:
    with timed(1, datapath="python") as (it, path):
        it.kernel.send(packet())
        path.pump(Direction.TX, 10)
        counters = path.counters(Direction.TX)
        assert counters.packets == 1
        assert (taken(counters), counters.timed_packets, counters.timed_rounds) == (
            set(),
            0,
            0,
        )
