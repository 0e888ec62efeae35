"""Results as text: right, and fit for 80 columns."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from flannelette.benchmarks.bars import BARS, judge
from flannelette.benchmarks.contenders import BY_NAME
from flannelette.benchmarks.results import METRICS, Figure, OtherRun, Place, Results
from flannelette.benchmarks.screen import Screen
from flannelette.benchmarks.tables import number, show, show_bars
from tests.helpers.terminal import Terminal


def printed(results: Results) -> list[str]:
    stream = io.StringIO()
    show(results, Screen(stream))
    return stream.getvalue().splitlines()


def some(**values: float) -> Results:
    """One metric, tcp1 on nic, by contender."""
    it = Results("run1", "2026-01-01", {"kernel": "Linux 6"}, {"rounds": "1"})
    for name, value in values.items():
        it.add(Place("nic", name, "tcp1"), value)
    return it


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (1234567.8, "1,234,568"),
        (123.4, "123"),
        (99.96, "100.0"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.1234, "0.12"),
        (0.0123, "0.012"),
        (0.00012, "0.00012"),
        (0.00001, "0.00"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(0, 1e15))
def test_a_number_is_near_what_it_says(value: float) -> None:
    said = float(number(value).replace(",", ""))
    assert said == pytest.approx(value, rel=0.06, abs=2e-4)
    assert "e" not in number(value)


def test_ratios_are_to_the_rivals_that_were_measured() -> None:
    lines = printed(some(thread=6.0, vxlan=3.0, none=24.0))
    at = lines.index("nic wire: times vxlan")
    assert [line.split() for line in lines[at + 1 : at + 5]] == [
        ["TCP", "1"],
        ["none", "8.00x"],
        ["vxlan", "1.00x"],
        ["thread", "2.00x"],
    ]
    assert not any("times flanneld" in line for line in lines)


def test_a_ratio_to_nothing_is_not_drawn() -> None:
    assert not any("times" in line for line in printed(some(thread=6.0, vxlan=0.0)))


def test_spread_is_told_of_several_rounds() -> None:
    it = some(thread=4.0)
    assert "  thread    4.00" in printed(it)
    it.add(Place("nic", "thread", "tcp1"), 6.0)
    assert "  thread  5.00 ±20%" in printed(it)


def test_what_was_not_measured_is_a_dash_or_no_column() -> None:
    it = some(thread=6.0, vxlan=3.0)
    it.add(Place("nic", "thread", "tcp4"), 7.0)
    lines = printed(it)
    at = lines.index("nic wire: throughput and loss-free rate")
    assert lines[at + 1].split() == ["TCP", "1", "TCP", "4"]
    assert lines[at + 3].split() == ["vxlan", "3.00", "-"]
    assert not any("round-trip" in line for line in lines)


def test_machine_legend_and_notes_are_told() -> None:
    it = some(thread=6.0)
    it.note("word " * 40)
    lines = printed(it)
    assert lines[0] == "flannelette bench, run run1, 2026-01-01"
    assert "  kernel       Linux 6" in lines
    assert any(BY_NAME["thread"].about in line for line in lines)
    assert sum("word" in line for line in lines) > 1


def everything() -> Results:
    """Everything measured, with the widest numbers."""
    it = some()
    for wire in ("nic", "plain", "veth"):
        for name in BY_NAME:
            for metric in METRICS:
                it.add(Place(wire, name, metric.key), 99_999.0)
                it.add(Place(wire, name, metric.key), 10.0)
    for name in ("16 routes", "65536 routes"):
        it.add(Place("-", name, "lookup"), 10.0)
    for name in ("thread", "uservxlan"):
        it.add(Place("-", name, "join"), 10.0)
    return it


def test_everything_is_shown_in_80_columns() -> None:
    it = everything()
    stream = io.StringIO()
    show(it, Screen(stream))
    show_bars(judge(it), Screen(stream))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in stream.getvalue()
    for wire in ("nic", "plain", "veth"):
        for rival in ("vxlan", "flanneld"):
            assert f"{wire} wire: times {rival}" in lines
    assert "by itself" in lines


def test_bars_as_a_table() -> None:
    it = some(thread=6.0, vxlan=3.0, flanneld=0.3)
    stream = io.StringIO()
    show_bars(judge(it), Screen(stream))
    _, _, *rows = stream.getvalue().splitlines()
    assert len(rows) == len(BARS) + 1
    assert rows[0].split() == [
        *["TCP,", "1", "flow", "nic", "vxlan", "≥", "2.00x", "2.00x", "met"]
    ]
    assert rows[1].endswith("not measured   NOT MET")
    assert rows[4].split()[-3:] == ["20.0x", "NOT", "MET"]


def test_a_bar_by_itself_has_a_unit() -> None:
    it = some()
    it.add(Place("-", "uservxlan", "join"), 0.25)
    stream = io.StringIO()
    show_bars([v for v in judge(it) if v.found is not None], Screen(stream))
    said = " ".join(stream.getvalue().split())
    assert "join of 1,000, VXLAN - - ≤ 1.00 s 0.25 s met" in said


def test_bars_that_were_not_measured_fit_80_columns() -> None:
    stream = io.StringIO()
    show_bars(judge(some()), Screen(stream))
    lines = stream.getvalue().splitlines()
    assert sum("not measured" in line for line in lines) == len(BARS)
    assert max(map(len, lines)) <= 80


def test_no_bars_no_table() -> None:
    stream = io.StringIO()
    show_bars([], Screen(stream))
    assert stream.getvalue().strip() == ""


def test_progress_is_for_terminals() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        Screen(stream).progress("x" * 100)
    assert terminal.getvalue() == "\r\x1b[K" + "x" * 79
    assert file.getvalue() == ""


def test_colour_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    show(some(thread=1.0), Screen(terminal))
    assert "\x1b[1mnic wire" in terminal.getvalue()
    plain = Terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    show(some(thread=1.0), Screen(plain))
    assert "\x1b" not in plain.getvalue()


class Mixed(Results):
    """Has one rival's figures from another run."""

    def figure(self, wire: str, contender: str, metric: str) -> Figure | None:
        found = super().figure(wire, contender, metric)
        if found is None or contender != "vxlan":
            return found
        return replace(found, run="run2")


@pytest.mark.parametrize("use", [judge, printed])
def test_ratios_of_mixed_runs_are_refused(use: Callable[[Results], object]) -> None:
    it = Mixed("run1", "2026-01-01", {}, {})
    for figure in some(thread=6.0, vxlan=3.0):
        it.add(figure.place, figure.median)
    with pytest.raises(OtherRun):
        use(it)
