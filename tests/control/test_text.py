"""Text for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from flannelette.control.text import duration, plural, printable


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (61, "1 min 1 s"),
        (3600, "1 h 0 min"),
        (3661, "1 h 1 min"),
        (90000, "1 d 1 h"),
        (86400 * 400, "400 d 0 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.text())
def test_printable_is_one_line(text: str) -> None:
    assert printable(text).isprintable()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 packets"), (1, "1 packet"), (2000, "2,000 packets")]
)
def test_plural(count: int, text: str) -> None:
    assert plural(count, "packet") == text
