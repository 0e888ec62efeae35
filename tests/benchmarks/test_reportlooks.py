"""The report's colours, in both themes: its texts can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from flannelette.benchmarks import report


def themes() -> Iterator[dict[str, str]]:
    css = report._read("page.css")
    pairs = re.findall(r"(--[\w-]+): light-dark\((#\w+), (#\w+)\)", css)
    assert len(pairs) > 10
    yield {name: light for name, light, _ in pairs}
    yield {name: dark for name, _, dark in pairs}


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", list(themes()), ids=("light", "dark"))
def test_texts_can_be_read(theme: dict[str, str]) -> None:
    """WCAG 2.2, 1.4.3: 4.5 for text; 1.4.11: 3 for what is drawn."""
    for ground in ("--paper", "--surface", "--wash", "--user", "--kernel"):
        for ink in ("--ink", "--soft"):
            assert contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
    for ground in ("--paper", "--surface", "--wash"):
        assert contrast(theme["--accent"], theme[ground]) >= 4.5, ground
    for ink in ("--good", "--bad", "--second"):
        assert contrast(theme[ink], theme["--surface"]) >= 4.5, ink
    for line in ("--user-line", "--kernel-line"):
        assert contrast(theme[line], theme["--surface"]) >= 3, line
