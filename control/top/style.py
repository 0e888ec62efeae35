"""Colours and labels of `flannelette top`.

Colours are the terminal's own sixteen, so that they fit its background; none of them is
alone in what it says.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from flannelette.control.text import LABEL

TX, RX = "cyan", "magenta"
DIM, BAD, WARN, GOOD = "dim", "bold red", "yellow", "green"
HEAD = "black on green"
KEY = "black on cyan"

Part = tuple[str, str]
"""A text and its style."""


def labelled(label: str, parts: Iterable[Part]) -> Text:
    """A line of these parts behind a label, which may be empty."""
    head = (f" {label:{LABEL - 1}}", "bold")
    return Text.assemble(head, *parts, no_wrap=True, overflow="ellipsis")
