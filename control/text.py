"""Text for a terminal: what all commands that people read agree on. Pure."""

from __future__ import annotations

import textwrap

WIDTH = 80
"""Columns."""
LABEL = 9
"""Columns of a label and the space after it."""


def wrapped(text: str, label: str, indent: int = LABEL) -> list[str]:
    """The text behind its label, in lines of at most WIDTH columns; those after the
    first are indented."""
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )


def duration(seconds: float) -> str:
    """The two largest units, such as `23 h 59 min`; rounded down."""
    left = int(max(0.0, seconds))
    counts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or counts:
            counts.append(f"{count} {unit}")
    return " ".join(counts[:2]) or "0 s"


def plural(count: int, noun: str) -> str:
    """Such as `1 packet` and `2,000 packets`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def printable(text: str) -> str:
    """The text on one line, without anything that would steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
