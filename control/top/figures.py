"""Numbers and pictures of a few columns, for `flannelette top`."""

from __future__ import annotations

from collections.abc import Sequence

from flannelette.control.text import duration

_UNKNOWN = "-"
_UP = " ▁▂▃▄▅▆▇█"
_RIGHT = " ▏▎▍▌▋▊▉█"

# ---- numbers -------------------------------------------------------------------------


def si(value: float | None) -> str:
    """Such as `0`, `7.5`, `812`, `9.41 G`: six columns; None is not known."""
    if value is None:
        return _UNKNOWN
    power = 0
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value /= 1000
        power += 1
    if not power:
        return f"{value:.{1 if value < 9.95 and value % 1 else 0}f}"
    places = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{places}f} {_PREFIXES[power]}"


_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def ago(seconds: float | None) -> str:
    """The largest unit: `now`, `59 s`, `3 d`; None is never."""
    if seconds is None:
        return "never"
    return "now" if seconds < 1 else " ".join(duration(seconds).split()[:2])


def mean(value: float | None) -> str:
    """With one decimal."""
    return _UNKNOWN if value is None else f"{value:.1f}"


# ---- pictures ------------------------------------------------------------------------


def gauge(part: float, width: int) -> str:
    """A bar of that many columns, filled to a part of 0 to 1, in eighths."""
    eighths = round(min(max(part, 0.0), 1.0) * width * 8)
    if part > 0:
        eighths = max(eighths, 1)  # something is not nothing
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_RIGHT[rest] if rest else "")).ljust(width)


def chart(values: Sequence[float], width: int, rows: int, top: float) -> list[str]:
    """Columns as high as the last values, the newest at the right; `top` is as high as
    all rows."""
    shown = list(values[-width:]) if width > 0 else []
    heights = [_eighths(value, rows, top) for value in shown]
    lines = []
    for row in reversed(range(rows)):
        cells = (_UP[min(max(height - 8 * row, 0), 8)] for height in heights)
        lines.append("".join(cells).rjust(max(width, 0)))
    return lines


def _eighths(value: float, rows: int, top: float) -> int:
    if value <= 0 or top <= 0:
        return 0
    return max(1, round(min(value / top, 1.0) * rows * 8))
