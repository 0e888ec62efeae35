"""The measures that need no rig give a figure for each contender."""

from __future__ import annotations

from pathlib import Path

from flannelette.benchmarks import join, micro
from flannelette.benchmarks.bars import BARS
from flannelette.benchmarks.micro import NO_WIRE
from flannelette.benchmarks.results import METRICS
from tests.helpers.ns import needs_namespaces


def wanted(metric: str) -> set[str]:
    """The contenders of the bars about it."""
    bars = [bar for bar in BARS if (bar.wire, bar.metric) == (NO_WIRE, metric)]
    return {name for bar in bars for name in (bar.ours, bar.rival) if name}


def test_each_is_of_a_metric_and_has_its_bars() -> None:
    keys = {metric.key for metric in METRICS}
    assert all(one.metric in keys and wanted(one.metric) for one in micro.MICROS)


def test_a_lookup_of_each_size(tmp_path: Path) -> None:
    [routes] = [one for one in micro.MICROS if one.metric == "lookup"]
    found = routes.run(tmp_path)
    assert wanted("lookup") == set(found)
    assert all(0.1 < nanoseconds < 1e5 for nanoseconds in found.values())


@needs_namespaces
def test_a_join_of_each_backend(tmp_path: Path) -> None:
    found = join.run(tmp_path)
    assert wanted("join") == set(found)
    assert all(0 < seconds < join.JOIN_SECONDS for seconds in found.values())
