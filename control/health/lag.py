"""How late the event loop is: what it is asked to do at a time, it does when."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left

PERIOD = 0.1
"""Seconds between two looks: a stall of this length is seen for certain, a shorter one
now and then, so that on the whole the shares are right."""
BOUNDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds. The loop's timers count milliseconds, so less means nothing."""


class Lag:
    """A histogram."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """Looks with at most so many seconds of lag, of BOUNDS, but more than the bound
        before; the last had more."""
        self.total = 0.0
        """Seconds, of all looks."""

    def note(self, seconds: float) -> None:
        seconds = max(0.0, seconds)
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            begun = time.monotonic()
            await asyncio.sleep(PERIOD)
            self.note(time.monotonic() - begun - PERIOD)
