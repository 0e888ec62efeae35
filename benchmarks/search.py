"""The highest rate that a system carries without loss, by a bracketed binary search.

RFC 2544 section 26.1 defines throughput so: the fastest rate at which all that is
offered arrives. Each trial here is short, and on a shared machine one that fails may
have met somebody else's burst. So a rate that loses no more than ACCIDENT has failed
only when it fails once more.

1 gallop from a first guess, by growing factors, until one rate holds and one fails
2 halve what lies between, in terms of ratios, until it is less than RESOLUTION
3 confirm: the rate found must hold once more, in a longer trial; while it does not,
  step down
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LOSS = 0.001
"""The share that may be lost: less than this."""
RESOLUTION = 1.05
FIRST_STEP = 1.15
LAST_STEP = 4.0
ACCIDENT = 0.05
"""The share of a trial that a moment without a processor may cost."""
SATURATED = 0.95
"""Of the offered rate; a source that sends less cannot do more."""
MOST_TRIALS = 40
CONFIRM_STEP = 0.95


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of an offered rate."""

    sent: int
    """Packets."""
    received: int
    seconds: float
    """Of sending."""

    @property
    def loss(self) -> float:
        """As a share; all of nothing."""
        return max(0.0, 1 - self.received / self.sent) if self.sent else 1.0

    @property
    def sent_rate(self) -> float:
        """Packets a second."""
        return self.sent / self.seconds

    @property
    def rate(self) -> float:
        """Packets that arrived, a second of sending."""
        return self.received / self.seconds

    @property
    def holds(self) -> bool:
        return self.loss < LOSS


@dataclass(slots=True)
class Bracket:
    """Between a rate that holds and one that fails. Pure: it is told, and tells."""

    guess: float
    good: float | None = None
    bad: float | None = None
    step: float = FIRST_STEP

    def next(self) -> float | None:
        """The rate to try; None when the bracket is narrow enough."""
        if self.good is None and self.bad is None:
            return self.guess
        if self.good is not None and self.bad is not None:
            if self.bad / self.good <= RESOLUTION:
                return None
            return math.sqrt(self.good * self.bad)
        step, self.step = self.step, min(self.step**2, LAST_STEP)
        if self.good is not None:
            return self.good * step
        assert self.bad is not None
        return self.bad / step

    def tell(self, rate: float, holds: bool) -> None:
        """What became of it."""
        if holds:
            self.good = rate
        else:
            self.bad = rate


def search(
    attempt: Callable[[float], Trial],
    confirm: Callable[[float], Trial],
    guess: float,
    floor: float,
    most: int = MOST_TRIALS,
) -> Trial | None:
    """The trial that confirmed the highest rate; None if not even `floor` holds.

    `attempt` and `confirm` offer a rate, in packets a second. With fewer trials, `most`
    before it is confirmed, the rate is found less exactly."""
    found = _bracketed(attempt, guess, floor, most)
    while found is not None and found >= floor:
        trial = confirm(found)
        if trial.holds:
            return trial
        found *= CONFIRM_STEP
    return None


def _bracketed(
    attempt: Callable[[float], Trial], guess: float, floor: float, most: int
) -> float | None:
    """The highest offered rate that held; None if none did."""
    bracket, fastest = Bracket(max(guess, floor)), 0.0
    for _ in range(most):
        rate = bracket.next()
        if rate is None or bracket.bad == floor:
            break
        rate = max(rate, floor)
        trial = _best(attempt, rate)
        bracket.tell(rate, trial.holds)
        if trial.holds and trial.sent_rate < SATURATED * rate:
            if trial.sent_rate < fastest * RESOLUTION:
                break  # more was asked, and no more was sent
            fastest = max(fastest, trial.sent_rate)
    return bracket.good


def _best(attempt: Callable[[float], Trial], rate: float) -> Trial:
    trial = attempt(rate)
    return trial if trial.holds or trial.loss > ACCIDENT else attempt(rate)
