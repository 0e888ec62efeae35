"""Measures that need no stand: a part of ours, timed by itself, on the wire NO_WIRE.

The contenders of the route lookup are sizes of the same problem: the bar is how the
cost grows. A join (join.py) is that of our backends, beside the clock.
"""

from __future__ import annotations

import random
import statistics
import time
from array import array
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from flannelette.benchmarks import join
from flannelette.native.api import PathConfig, Route
from flannelette.native.fastpath import FastPath

NO_WIRE = "-"
FEW, MANY = "16 routes", "65536 routes"
"""Who competes in the route lookup."""

LOOKUPS = 4096
"""In one call, whose own cost is then nothing beside theirs."""
CALLS = 8
"""With other destinations each: more than a processor learns the order of."""
TURNS = 32
FIRST = 10 << 16 | 128 << 8
"""The first subnet, 10.128.0.0/24; so many end beyond 10.0.0.0/8."""


@dataclass(frozen=True, slots=True)
class Micro:
    """Something that is done once a round, before the contenders stand."""

    name: str
    about: str
    metric: str
    """A key of METRICS."""
    run: Callable[[Path], Mapping[str, float]]
    """Given a directory of its own, a value for each contender. Raises RigError,
    OSError."""
    seconds: float
    """About how long it takes."""


class _Lookups:
    """So many subnets of one network, and random destinations in them."""

    def __init__(self, subnets: int) -> None:
        self.path = FastPath(PathConfig(-1, -1, -1, mtu=1472, address=0))
        ours = range(FIRST, FIRST + subnets)
        self.path.set_routes([Route(s << 8, 24, s, 8285) for s in ours])
        self._calls = [
            array("I", (random.choice(ours) << 8 | 1 for _ in range(LOOKUPS)))
            for _ in range(CALLS)
        ]
        self._peers = array("I", bytes(8 * LOOKUPS))

    def times(self) -> list[float]:
        """Nanoseconds of one lookup, from each call."""
        times = []
        for addresses in self._calls:
            start = time.perf_counter_ns()
            found = self.path.find(addresses, self._peers)
            times.append((time.perf_counter_ns() - start) / found)
        return times


def _routes(_place: Path) -> dict[str, float]:
    """In turns, so that whatever else the machine does befalls both."""
    with ExitStack() as stack:
        sizes = {FEW: _Lookups(16), MANY: _Lookups(65536)}
        for lookups in sizes.values():
            stack.enter_context(closing(lookups.path))
        times: dict[str, list[float]] = {name: [] for name in sizes}
        for _ in range(TURNS):
            for name, lookups in sizes.items():
                times[name] += lookups.times()
        return {name: statistics.median(found) for name, found in times.items()}


MICROS = (
    Micro("routes", "a route lookup, by the size of the table", "lookup", _routes, 0.3),
    Micro(
        "join", "to reach the first 1,000 peers, from the lease", "join", join.run, 2
    ),
)
