"""What a run of the lab is to do, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from flannelette.benchmarks.contenders import OURS
from flannelette.benchmarks.labdocument import Check, Counts, Stages, TimerCost
from flannelette.benchmarks.labrungs import BY_RUNG, RungKind
from flannelette.benchmarks.rig import Wire

TCP_SECONDS = 1
"""Of one run; the least that iperf3 knows."""
RUN_SECONDS = TCP_SECONDS + 0.1
SETUP_SECONDS = 0.9
"""A stand of ours, up and down."""
EVERY = 16
"""One round of a pump in so many is timed."""
TIMERS = f"--time-stages={EVERY}"
TIMER_ROUNDS = 3
"""With and without."""
MOST_SECONDS = 165.0
"""For all: a round that would not fit is left out."""
FIRST_RATES = {"python": 15e3}
FIRST_RATE = 120e3
"""Packets a second, about what daemons carry: where a search for the rate begins."""
MEASURES = ("tcp1", "rtt", "udp64")
"""Those of the bench that the lab takes, in this order."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How closely to look."""

    rounds: int
    trials: int
    trial_seconds: float
    """Of the search for the loss-free rate."""
    echo_seconds: float
    closer: bool
    """Is each rung looked at by itself after the rounds? Else the timers are on during
    the rounds, and the counts are not checked."""


FULL = Depth(3, 8, 0.12, 0.5, True)
QUICK = Depth(1, 5, 0.1, 0.25, False)


@dataclass(frozen=True, slots=True)
class Wish:
    """What to run."""

    wire: Wire
    rungs: tuple[str, ...]
    measures: tuple[str, ...]
    """Of MEASURES; tcp1 is always there."""
    depth: Depth
    command: str
    """That asks for it."""

    @property
    def kinds(self) -> list[RungKind]:
        """In the order of the ladder."""
        return [kind for name, kind in BY_RUNG.items() if name in self.rungs]

    @property
    def daemons(self) -> list[RungKind]:
        """Those that forward in userspace."""
        return [kind for kind in self.kinds if kind.contender.flags is not None]

    @property
    def timed(self) -> list[RungKind]:
        """Those whose stages can be timed."""
        return [kind for kind in self.daemons if kind.has_timers]

    @property
    def times_timers(self) -> bool:
        """Is it measured what the timers cost?"""
        return self.depth.closer and OURS in self.rungs

    @property
    def seconds_after(self) -> float:
        """About what follows the rounds takes."""
        if not self.depth.closer:
            return 0.0
        looks = len(self.timed) + len(self.daemons)
        runs = 2 * TIMER_ROUNDS * self.times_timers
        setups = looks + 2 * self.times_timers
        return setups * SETUP_SECONDS + (looks + runs) * RUN_SECONDS

    def fits(self, done: int, passed: float) -> bool:
        """Is there time for one round more, when so many took so many seconds?"""
        if not done:
            return True
        return passed * (1 + 1 / done) + self.seconds_after <= MOST_SECONDS


@dataclass(slots=True)
class Found:
    """What is known of a rung, besides its figures."""

    mtu: int
    counts: Counts
    checks: tuple[Check, ...] = ()
    stages: tuple[Stages, ...] | None = None


@dataclass(slots=True)
class Findings:
    """The same of the ladder, by rung."""

    rungs: dict[str, Found] = field(default_factory=dict)
    offloads: tuple[str, ...] = ()
    """The most that any rung was granted."""
    timers: TimerCost | None = None
