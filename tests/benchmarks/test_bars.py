"""The bars: which way they go, and that nothing unmeasured passes."""

from __future__ import annotations

import pytest

from flannelette.benchmarks.bars import BARS, Bar, Verdict, judge
from flannelette.benchmarks.contenders import MAIN, OURS
from flannelette.benchmarks.results import METRICS, Place, Results

MORE = Bar("speed", "nic", "tcp1", "vxlan", 2.0)
ALONE = Bar("join", "nic", "join", None, 1.0, at_most=True)
LESS = Bar("delay", "nic", "rtt", "vxlan", 0.8, at_most=True)


def results(ours: dict[str, float], theirs: dict[str, float]) -> Results:
    it = Results("a", "", {}, {})
    for name, values in ((OURS, ours), ("vxlan", theirs)):
        for metric, value in values.items():
            it.add(Place("nic", name, metric), value)
    return it


@pytest.mark.parametrize(
    ("bar", "found", "met"),
    [
        (MORE, 2.0, True),
        (MORE, 1.99, False),
        (MORE, None, False),
        (LESS, 0.8, True),
        (LESS, 0.81, False),
        (LESS, None, False),
        (ALONE, 1.0, True),
        (ALONE, 1.01, False),
        (ALONE, None, False),
    ],
)
def test_a_bar_is_met_or_not(bar: Bar, found: float | None, met: bool) -> None:
    assert Verdict(bar, found).met is met


def test_ours_is_over_theirs() -> None:
    it = results({"tcp1": 6.0, "rtt": 30.0}, {"tcp1": 2.0, "rtt": 20.0})
    assert [verdict.found for verdict in judge(it, [MORE, LESS])] == [3.0, 1.5]


def test_ours_by_itself() -> None:
    it = results({"join": 0.3}, {"join": 0.1})
    assert [verdict.found for verdict in judge(it, [ALONE])] == [0.3]
    assert [verdict.found for verdict in judge(results({}, {}), [ALONE])] == [None]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [({}, {"tcp1": 2.0}), ({"tcp1": 2.0}, {}), ({"tcp1": 2.0}, {"tcp1": 0.0})],
)
def test_what_was_not_measured_on_both_sides(
    ours: dict[str, float], theirs: dict[str, float]
) -> None:
    assert [verdict.found for verdict in judge(results(ours, theirs), [MORE])] == [None]


def test_the_bars_speak_of_what_there_is() -> None:
    metrics = {metric.key for metric in METRICS}
    assert len(BARS) == 17
    for bar in BARS:
        assert bar.metric in metrics
        assert (bar.rival is None) == (bar.metric == "join")
        for name in filter(None, (bar.ours, bar.rival)):
            assert (name in MAIN) == (bar.metric != "lookup")
        assert bar.at_most == (bar.metric in ("daemons_gb", "rtt", "lookup", "join"))
