"""A series of rounds: who is measured when, and how long it will take.

Every contender has a rig of its own (contenders.py), anew in every round, for where a
program comes to lie in memory is a matter of luck. All of a round stand side by side,
since an idle one costs nothing. So they take turns measure by measure, in an order that
shifts from turn to turn, and what the machine does meanwhile happens to all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from flannelette.benchmarks import interrupts
from flannelette.benchmarks.contenders import BY_NAME, MAIN, Contender, Stand, stand
from flannelette.benchmarks.measures import MEASURES, Measure, Tools
from flannelette.benchmarks.micro import MICROS, NO_WIRE, Micro
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.results import Place, Results
from flannelette.benchmarks.rig import Wire
from flannelette.benchmarks.screen import Screen
from flannelette.control.errors import one_line

STAND_SECONDS = 1.5
"""About what a stand takes to come up and to go."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure in each round."""

    rounds: int
    seconds: int
    """Of a TCP run."""
    wires: tuple[Wire, ...]
    contenders: tuple[str, ...] | None
    """None: everyone on nic, the MAIN ones on the other wires."""
    measures: tuple[str, ...] | None
    """None: all on nic, TCP on the other wires."""
    flanneld: Path
    """Its program."""
    own: tuple[Measure, ...] | None = None
    """Measures to choose from instead of the bench's."""
    flags: tuple[str, ...] = ()
    """Of `flannelette run`, besides those that a contender of ours has."""

    def contenders_on(self, wire: Wire) -> tuple[str, ...]:
        """In the order of BY_NAME, as chosen."""
        chosen = self.contenders or (MAIN if wire != "nic" else tuple(BY_NAME))
        return tuple(name for name in BY_NAME if name in chosen)

    def measures_on(self, wire: Wire) -> list[Measure]:
        """In the order of MEASURES, as chosen; not everybody takes part in each."""
        tcp = ("tcp1", "tcp4")
        known = MEASURES if self.own is None else self.own
        every = tuple(measure.name for measure in known)
        chosen = self.measures or (tcp if wire != "nic" else every)
        return [measure for measure in known if measure.name in chosen]

    def who_takes(self, measure: Measure, wire: Wire) -> tuple[str, ...]:
        """The contenders of that measure there."""
        suits = {name: BY_NAME[name].measures for name in self.contenders_on(wire)}
        return tuple(n for n, few in suits.items() if not few or measure.name in few)

    def contender(self, name: str) -> Contender:
        """Of that name, with the plan's flags."""
        found = BY_NAME[name]
        if found.flags is None or not self.flags:
            return found
        return replace(found, flags=(*found.flags, *self.flags))

    @property
    def micros(self) -> list[Micro]:
        """Those that need no stand, as chosen."""
        return [m for m in MICROS if self.measures is None or m.name in self.measures]

    @property
    def everyone(self) -> list[str]:
        """Who takes part on any wire."""
        found = {name for wire in self.wires for name in self.contenders_on(wire)}
        return [name for name in BY_NAME if name in found]


@dataclass(frozen=True, slots=True)
class Turn:
    """One measure of one contender on one wire."""

    wire: Wire
    measure: Measure
    contender: str

    def __str__(self) -> str:
        return f"{self.wire} {self.measure.name} {self.contender}"


def turns(plan: Plan, number: int) -> Iterator[Turn]:
    """All of round `number`, from 0. Who begins shifts with every measure and round."""
    shift = number
    for wire in plan.wires:
        for measure in plan.measures_on(wire):
            names = plan.who_takes(measure, wire)
            first = shift % len(names) if names else 0
            for name in (*names[first:], *names[:first]):
                yield Turn(wire, measure, name)
            shift += 1


class Progress:
    """What goes on and how long it will take yet: one line on a terminal, else one for
    each round."""

    def __init__(self, plan: Plan, screen: Screen, after: float = 0.0) -> None:
        """`after`: seconds that are planned for what follows the rounds."""
        self._screen = screen
        self._rounds = plan.rounds
        turn_seconds = (t.measure.seconds(plan.seconds) for t in turns(plan, 0))
        each = STAND_SECONDS * len(plan.everyone) + sum(turn_seconds)
        each += sum(micro.seconds for micro in plan.micros)
        self._planned = each * plan.rounds + after
        self._done = self._now = 0.0
        """Of what was planned: what is over, and what goes on."""
        self._started = time.monotonic()
        self._number: int | None = -1

    def tell(self, number: int | None, what: str, seconds: float) -> None:
        """Begin with something that was planned to take so long; in no round, when all
        of them are over."""
        self._done += self._now
        self._now = seconds
        left = max(0.0, self._planned - self._done)
        if self._done:  # the rest is as fast or slow as all was so far
            left *= (time.monotonic() - self._started) / self._done
        minutes, rest = divmod(round(left), 60)
        if number is None:
            where = "after the rounds"
        else:
            where = f"round {number + 1} of {self._rounds}"
        head = f"{where}, {minutes}:{rest:02} left"
        if number != self._number and not self._screen.is_terminal:
            self._screen.say(head)
        self._number = number
        self._screen.progress(f"{head}: {what}")

    def end(self) -> None:
        self._screen.progress("")


def run(plan: Plan, tools: Tools, results: Results, screen: Screen) -> None:
    """All rounds. What fails becomes a note in the results; a contender that cannot be
    set up takes part no more.

    Raises OSError where the machine itself fails."""
    progress = Progress(plan, screen)
    it = Series(plan, tools, results, progress)
    with interrupts.directory() as directory:
        for number in range(plan.rounds):
            it.round(number, directory)
    progress.end()


class Series:
    """Rounds, one by one."""

    def __init__(
        self, plan: Plan, tools: Tools, results: Results, progress: Progress
    ) -> None:
        self._plan = plan
        self._tools = tools
        self._results = results
        self._progress = progress
        self._absent: set[str] = set()

    def round(self, number: int, directory: Path) -> None:
        """Round `number`, from 0. Raises OSError where the machine itself fails."""
        plan, tools, results = self._plan, self._tools, self._results
        for micro in plan.micros:
            self._progress.tell(number, micro.name, micro.seconds)
            _take_micro(micro, number, directory / f"{number}{micro.name}", results)
        with ExitStack() as stack:
            stands = self._set_up(stack, number, directory)
            for turn in turns(plan, number):
                seconds = turn.measure.seconds(plan.seconds)
                self._progress.tell(number, str(turn), seconds)
                if it := stands.get(turn.contender):
                    _take(turn, number, it, tools, results)
            self._progress.tell(number, "taking it all down", 0.0)

    def _set_up(
        self, stack: ExitStack, number: int, directory: Path
    ) -> dict[str, Stand]:
        plan, stands = self._plan, {}
        for name in plan.everyone:
            self._progress.tell(number, f"setting up {name}", STAND_SECONDS)
            if name in self._absent:
                continue
            place = directory / f"{number}{name}"
            new = stand(plan.contender(name), plan.wires[0], place, plan.flanneld)
            try:
                stands[name] = stack.enter_context(new)
            except RigError as error:
                self._absent.add(name)
                self._results.note(f"{name} is left out: {one_line(error)}")
        return stands


def _take_micro(micro: Micro, number: int, place: Path, results: Results) -> None:
    place.mkdir()
    try:
        values = micro.run(place)
    except RigError as error:
        results.note(f"round {number + 1}, {micro.name}: {one_line(error)}")
        return
    for name, value in values.items():
        results.add(Place(NO_WIRE, name, micro.metric), value)


def _take(turn: Turn, number: int, it: Stand, tools: Tools, results: Results) -> None:
    try:
        it.check()
        if it.rig.wire != turn.wire:
            it.rig.set_wire(turn.wire)
        values = turn.measure.run(tools, it)
    except RigError as error:
        results.note(f"round {number + 1}, {turn}: {one_line(error)}")
        return
    for metric, value in values.items():
        results.add(Place(turn.wire, turn.contender, metric), value)
