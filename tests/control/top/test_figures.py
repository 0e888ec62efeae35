"""Numbers of a few columns, and pictures."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from flannelette.control.top.figures import ago, chart, gauge, si


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.04, "0.0"),
        (7, "7"),
        (7.5, "7.5"),
        (9.96, "10"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (9_994, "9.99 k"),
        (9_996, "10.0 k"),
        (99_960, "100 k"),
        (999_600, "1.00 M"),
        (9.41e9, "9.41 G"),
        (2**64, "18.4 E"),
    ],
)
def test_si(value: float | None, text: str) -> None:
    assert si(value) == text


@given(st.floats(0, 1e21, exclude_max=True) | st.integers(0, 2**64))
def test_six_columns_are_enough(value: float) -> None:
    assert len(si(value)) <= 6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "never"), (0.9, "now"), (1, "1 s"), (3599, "59 min"), (90000, "1 d")],
)
def test_ago(seconds: float | None, text: str) -> None:
    assert ago(seconds) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [(0, "    "), (1e-9, "▏   "), (0.5, "██  "), (0.53, "██▏ "), (1, "████")],
)
def test_gauge(part: float, text: str) -> None:
    assert gauge(part, 4) == text
    assert gauge(7.0, 4) == "████"


def test_a_chart_has_the_newest_at_the_right() -> None:
    assert chart([9, 0, 1, 4, 8], 4, 2, 8) == ["   █", " ▂██"]
    assert chart([8], 3, 1, 8) == ["  █"]
    assert chart([0, 0.001], 2, 1, 8) == [" ▁"]
    assert chart([0, 0], 2, 1, 0) == ["  "]
    assert chart([1], 0, 1, 1) == [""]
