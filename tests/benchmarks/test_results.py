"""Figures, and the rule that a ratio stays within a run."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given, strategies as st

from flannelette.benchmarks.results import (
    METRICS,
    Figure,
    OtherRun,
    Place,
    Results,
    ResultsError,
    dump,
    load,
    only_run,
    ratio,
)

TCP = Place("nic", "thread", "tcp1")


def figure(*values: float, run: str = "a", metric: str = "tcp1") -> Figure:
    return Figure(run, Place("nic", "thread", metric), values)


def results(run: str = "a") -> Results:
    return Results(run, "2026-01-01T00:00:00+00:00", {"kernel": "Linux"}, {})


def test_median_and_spread() -> None:
    assert figure(3.0, 1.0, 2.0).median == 2.0
    assert figure(3.0, 1.0, 2.0).spread == 0.5
    assert figure(4.0).spread == 0.0
    assert figure(0.0, 0.0).spread == 0.0
    assert figure(1.0).metric.unit == "Gbit/s"


@given(st.lists(st.floats(0.001, 1e9), min_size=1))
def test_spread_is_of_the_extremes(values: list[float]) -> None:
    found = figure(*values)
    half = found.spread * statistics.median(values)
    assert half == pytest.approx((max(values) - min(values)) / 2, abs=1e-6)


def test_a_figure_has_values_and_a_known_metric() -> None:
    with pytest.raises(ResultsError, match="no figure"):
        figure()
    with pytest.raises(ResultsError, match="no figure"):
        figure(1.0, metric="speed")


def test_a_ratio_is_of_medians() -> None:
    assert ratio(figure(3.0, 9.0, 6.0), figure(2.0)) == 3.0
    assert ratio(figure(1.0), figure(0.0)) is None


def test_no_ratio_between_runs() -> None:
    with pytest.raises(OtherRun, match=r"different runs \(a and b\)"):
        ratio(figure(1.0), figure(1.0, run="b"))


def test_no_ratio_between_metrics() -> None:
    with pytest.raises(ValueError, match="rtt over tcp1"):
        ratio(figure(1.0, metric="rtt"), figure(1.0))


def test_a_figure_cannot_change_its_run() -> None:
    with pytest.raises(AttributeError):
        figure(1.0).run = "b"  # type: ignore[misc]  # that is the test


def test_only_run() -> None:
    one, again, other = results(), results(), results("b")
    assert only_run([one]) is one
    assert only_run([one, again]) is again
    with pytest.raises(OtherRun, match=r"\(a and b\)"):
        only_run([one, other])


def test_results_collect_rounds() -> None:
    it = results()
    assert it.figure("nic", "thread", "tcp1") is None
    it.add(TCP, 1.0)
    it.add(Place("veth", "vxlan", "rtt"), 5.0)
    it.add(TCP, 3.0)
    assert it.figure("nic", "thread", "tcp1") == figure(1.0, 3.0)
    assert [found.place.wire for found in it] == ["nic", "veth"]
    assert it.contenders("nic") == ["thread"]
    assert it.contenders("plain") == []


def test_a_note_is_said_once() -> None:
    it = results()
    it.note("too hot")
    it.note("too hot")
    assert it.notes == ["too hot"]


places = st.builds(
    Place,
    st.sampled_from(["nic", "veth"]),
    st.sampled_from(["vxlan", "thread"]),
    st.sampled_from([metric.key for metric in METRICS]),
)


@given(st.lists(st.tuples(places, st.floats(0, 1e12))), st.lists(st.text()))
def test_what_is_saved_comes_back(
    added: list[tuple[Place, float]], notes: list[str]
) -> None:
    it = results()
    for place, value in added:
        it.add(place, value)
    for note in notes:
        it.note(note)
    assert load(dump(it)) == it


@given(st.binary(max_size=200))
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(ResultsError):
        load(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"format": 1', b'"format": 2'),
        (b'"tcp1"', b'"speed"'),
        (b'"run": "a"', b'"run": 1'),
        (b'"notes"', b'"nodes"'),
    ],
)
def test_a_spoiled_document_is_refused(old: bytes, new: bytes) -> None:
    it = results()
    it.add(TCP, 1.0)
    text = dump(it)
    assert old in text
    with pytest.raises(ResultsError):
        load(text.replace(old, new))
