"""Measures that need no rig: a part of the fast path, timed by itself.

Its contenders are sizes of the same problem, on the wire NO_WIRE: the bar is how the
cost grows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

NO_WIRE = "-"


@dataclass(frozen=True, slots=True)
class Micro:
    """Something that is done once a round, before there is a rig."""

    name: str
    about: str
    metric: str
    """A key of METRICS."""
    run: Callable[[], Mapping[str, float]]
    """A value for each contender; well under a second."""


MICROS: tuple[Micro, ...] = ()
