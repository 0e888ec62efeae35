"""Text for a terminal that others look at: titles, steps with their time, tables.

Bold and colour only on a terminal, and not under NO_COLOR; at most 80 columns.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

WIDTH = 80
_INDENT = "  "


class Screen:
    """Writes to one stream, at once."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.is_terminal = self._stream.isatty()
        self._colour = self.is_terminal and not os.environ.get("NO_COLOR")

    def say(self, text: str = "") -> None:
        """A line, or several, as they are."""
        print(text, file=self._stream, flush=True)

    def title(self, text: str) -> None:
        """What all that follows is about."""
        self.say(self._styled("1", text) + "\n")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """One line for what the body does: the text before, the time after."""
        started = time.monotonic()
        dots = "." * (WIDTH - len(_INDENT) - len(text) - len(" 0000.00 s") - 1)
        self._stream.write(f"{_INDENT}{text} {self._styled('2', dots)}")
        self._stream.flush()
        try:
            yield
        except BaseException as error:
            end = "failed" if isinstance(error, Exception) else "interrupted"
            self.say(" " + self._styled("31", end))
            raise
        took = f"{time.monotonic() - started:7.2f} s"
        self.say(self._styled("32", took))

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns as wide as they must be, the last one flowing to the edge."""
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        self.say()
        self.say(self._styled("1", self._row(head, widths)))
        for row in rows:
            self.say(self._row(row, widths))

    def heading(self, text: str) -> None:
        """What the next table is about."""
        self.say(self._styled("1", text))

    def grid(self, rows: Sequence[Sequence[str]], heads: int) -> None:
        """Numbers to the right of their columns, names at the left; the first `heads`
        rows say what is in the columns."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for index, row in enumerate(rows):
            line = self._numbers(row, widths)
            self.say(self._styled("2", line) if index < heads else line)

    def progress(self, text: str) -> None:
        """What goes on, on a line that the next one replaces; only on a terminal."""
        if self.is_terminal:
            self._stream.write(f"\r\x1b[K{text[: WIDTH - 1]}")
            self._stream.flush()

    def _numbers(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        name, *rest = cells
        padded = [
            cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)
        ]
        return (_INDENT + "  ".join([name.ljust(widths[0]), *padded])).rstrip()

    def _row(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        return _INDENT + "   ".join(padded).rstrip()

    def _styled(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text
