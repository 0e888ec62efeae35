"""The measures that need no rig give a figure for each contender."""

from __future__ import annotations

from flannelette.benchmarks import micro
from flannelette.benchmarks.bars import BARS
from flannelette.benchmarks.results import METRICS


def test_each_contender_of_the_bars_has_a_figure() -> None:
    wanted = {n for b in BARS if b.wire == micro.NO_WIRE for n in (b.ours, b.rival)}
    found: dict[str, float] = {}
    for one in micro.MICROS:
        assert one.metric in {metric.key for metric in METRICS}
        found |= one.run()
    assert wanted == set(found)
    assert all(0.1 < nanoseconds < 1e5 for nanoseconds in found.values())
