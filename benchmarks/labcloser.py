"""A look at each rung by itself, after the rounds: what would have disturbed them.

The kernel's tracepoints, asked through perf, check what the daemons count. The fast
path's own timers say where the time goes, and beside them one rung runs with and
without, for they cost some of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from flannelette.benchmarks import iperf, labcounts, measures
from flannelette.benchmarks.contenders import OURS, Stand, stand
from flannelette.benchmarks.labdocument import TimerCost
from flannelette.benchmarks.labplan import (
    EVERY,
    RUN_SECONDS,
    SETUP_SECONDS,
    TCP_SECONDS,
    TIMER_ROUNDS,
    TIMERS,
    Findings,
    Wish,
)
from flannelette.benchmarks.labrungs import BY_RUNG, RungKind
from flannelette.benchmarks.netns import RigError, tool
from flannelette.benchmarks.results import Place, Results
from flannelette.benchmarks.series import Progress
from flannelette.control.errors import one_line

TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
NOWHERE = Path("/nonexistent")
"""flanneld's program, which is on no rung."""


@dataclass(frozen=True, slots=True)
class Closer:
    """Where to look, and where to say what was seen."""

    wish: Wish
    findings: Findings
    results: Results
    directory: Path
    progress: Progress

    def look(self) -> None:
        """At all rungs that could be set up before. What fails becomes a note."""
        events = self._events()
        for kind in self.wish.daemons:
            if kind.name not in self.findings.rungs:
                continue
            with self._noting(f"counting {kind.name}"):
                self._count(kind, events)
            if kind in self.wish.timed:
                with self._noting(f"timing {kind.name}"):
                    self._time(kind)
        if self.wish.times_timers and OURS in self.findings.rungs:
            with self._noting("what the timers cost", 2 * TIMER_ROUNDS):
                self.findings.timers = self._timer_cost(BY_RUNG[OURS])

    @contextmanager
    def _noting(self, what: str, runs: int = 1) -> Iterator[None]:
        self.progress.tell(None, what, SETUP_SECONDS + runs * RUN_SECONDS)
        try:
            yield
        except RigError as error:
            self.results.note(f"{what}: {one_line(error)}")

    def _events(self) -> list[str]:
        """The tracepoints that there are; none where they cannot be asked."""
        try:
            measures.find_perf()
        except RigError as error:
            self.results.note(f"the kernel's tracepoints are not asked: {error}")
            return []
        wanted = (labcounts.ALL_CALLS, labcounts.COPIES, *labcounts.SYSTEM_CALLS)
        return [event for event in wanted if _is_there(event)]

    def _count(self, kind: RungKind, events: list[str]) -> None:
        """By the tracepoints too, if there are any."""
        output = self.directory / f"{kind.name}.perf"
        output.touch()
        with self._stand(kind, "counted") as it:
            under = []
            if events:
                pids = ",".join(map(str, it.pids))
                under = [tool("perf"), "stat", "-e", ",".join(events), "-x,"]
                under += ["-o", str(output), "-p", pids, "--"]
            before = labcounts.look(it)
            stream = iperf.run(it, 1, TCP_SECONDS, under=under)
            after = labcounts.look(it)
            packets = measures.full_packets(it, stream.bytes)
        traced = labcounts.perf_counts(output.read_text())
        self.findings.rungs[kind.name].checks = labcounts.checks(before, after, traced)
        if labcounts.ALL_CALLS in traced:
            place = Place(self.wish.wire, kind.name, "syscalls")
            self.results.add(place, traced[labcounts.ALL_CALLS] / packets)

    def _time(self, kind: RungKind) -> None:
        with self._stand(kind, "timed", TIMERS) as it:
            before = labcounts.look(it)
            iperf.run(it, 1, TCP_SECONDS)
            after = labcounts.look(it)
        self.findings.rungs[kind.name].stages = labcounts.stages(before, after)

    def _timer_cost(self, kind: RungKind) -> TimerCost:
        """With and without, side by side and in turn."""
        rates: dict[bool, list[float]] = {False: [], True: []}
        with self._stand(kind, "off") as off, self._stand(kind, "on", TIMERS) as on:
            for number in range(TIMER_ROUNDS):
                for timed in (False, True) if number % 2 else (True, False):
                    stream = iperf.run(on if timed else off, 1, TCP_SECONDS)
                    rates[timed].append(stream.bits_per_second / 1e9)
        return TimerCost(kind.name, EVERY, tuple(rates[False]), tuple(rates[True]))

    @contextmanager
    def _stand(self, kind: RungKind, why: str, *flags: str) -> Iterator[Stand]:
        contender = kind.contender
        assert contender.flags is not None
        contender = replace(contender, flags=(*contender.flags, *flags))
        place = self.directory / f"{kind.name}-{why}"
        with stand(contender, self.wish.wire, place, NOWHERE) as it:
            yield it


def _is_there(event: str) -> bool:
    path = Path("events", *event.split(":"))
    return any((root / path).exists() for root in TRACEFS)
