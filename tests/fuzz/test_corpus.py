"""What libFuzzer found worth keeping goes through both twins, with equal results."""

from __future__ import annotations

from pathlib import Path

from flannelette.native.api import Burst, Direction
from tests.helpers.packets import ROUTE, with_checksum
from tests.helpers.twins import both, datagrams

CORPUS = Path(__file__).parent / "corpus"


def pieces(entry: bytes) -> list[bytes]:
    """A corpus entry as fuzz_path.c reads it."""
    if len(entry) < 3:
        return []
    segment = 1 + int.from_bytes(entry[1:3], "big")
    data = entry[3:-10] if entry[0] & 4 and len(entry) >= 13 else entry[3:]
    cut = [data[at : at + segment] for at in range(0, len(data), segment)]
    return [with_checksum(one) for one in cut] if entry[0] & 1 else cut


def test_corpus() -> None:
    entries = [pieces(path.read_bytes()) for path in sorted(CORPUS.iterdir())]
    assert len(entries) > 100
    with both() as (native, python):
        for path in (native, python):
            path.set_routes([ROUTE])
        for frames in entries:
            fast, fast_answers = native.wrap(frames, 0)
            pure, pure_answers = python.wrap(frames, 0)
            assert datagrams(fast) == datagrams(pure)
            assert fast_answers == pure_answers
            bursts = [Burst(frame, max(len(frame), 1), 1, 1) for frame in frames]
            assert native.unwrap(bursts) == python.unwrap(bursts)
        for direction in Direction:
            assert native.counters(direction) == python.counters(direction)
