"""`flannelette bench`: the overlay measured beside others, all in one run.

    flannelette bench                        # everything, in about 12 minutes
    flannelette bench --quick                # a look
    flannelette bench --wire=nic --contenders=vxlan,threads --measures=tcp1 --rounds=3

Every contender has a rig of its own (contenders.py), anew in every round, and all of a
round stand side by side: an idle one costs nothing. So they take turns measure by
measure, in an order that shifts from turn to turn, and what the machine does meanwhile
happens to all of them. Figures are medians over the rounds.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args
from uuid import uuid4

from flannelette.benchmarks import interrupts, machine, rootless, tables
from flannelette.benchmarks.contenders import BY_NAME, Stand, stand
from flannelette.benchmarks.measures import MEASURES, Measure, Tools
from flannelette.benchmarks.netns import RigError, tool
from flannelette.benchmarks.results import Place, Results, ResultsError, dump
from flannelette.benchmarks.rig import Wire
from flannelette.benchmarks.screen import Screen
from flannelette.benchmarks.worker import load_generator
from flannelette.control import goflags
from flannelette.control.errors import ConfigError, ControlError, one_line
from flannelette.control.goflags import Flag

FLANNELD = machine.HERE / "build" / "peers" / "flanneld"
STAND_SECONDS = 1.5
"""About what a stand takes to come up and to go."""


@dataclass(frozen=True, slots=True)
class Options:
    """The flags, checked."""

    wire: tuple[str, ...]
    contenders: tuple[str, ...]
    measures: tuple[str, ...]
    rounds: int
    seconds: int
    flanneld: Path
    json: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One measure of one contender on one wire."""

    wire: Wire
    measure: Measure
    contender: str


def main(argv: list[str]) -> int:
    """Run the bench; the exit code: 0, 1 when it failed or a bar is not met, 2 for
    wrong flags, 130 when interrupted. SIGTERM and SIGHUP end in SystemExit, after the
    cleanup. Raises BrokenPipeError when nobody reads."""
    try:
        options = parse(argv)
    except goflags.HelpWanted:
        print(usage())
        return 0
    except ConfigError as error:
        return _fail(error, error.exit_code)
    interrupts.catch()
    try:
        rootless.become_privileged()
        return _bench(options)
    except KeyboardInterrupt:
        print("\ninterrupted; all is removed", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except (RigError, ResultsError, ControlError, OSError) as error:
        return _fail(error, 1)
    finally:
        interrupts.release()


def parse(argv: Sequence[str]) -> Options:
    """Read the flags. Raises ConfigError, goflags.HelpWanted."""
    return Options(**goflags.defaults(FLAGS) | goflags.from_argv(FLAGS, argv))


def usage() -> str:
    """What `flannelette bench --help` prints."""
    return (
        "Usage: flannelette bench [flags]\n\n"
        "Measures overlays between two hosts made of network namespaces.\n"
        + goflags.usage({"Flags": FLAGS})
    )


def _bench(options: Options) -> int:
    tool("iperf3")
    screen = Screen(sys.stderr if options.json == "-" else sys.stdout)
    found = options.flanneld.exists()
    results = Results(
        run=uuid4().hex[:8],
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.describe(options.flanneld if found else None),
        settings={"rounds": f"{options.rounds} of {options.seconds} s"},
    )
    names = list(options.contenders)
    if not found and "flanneld" in names:
        names.remove("flanneld")
        results.note(f"no flanneld at {options.flanneld}: it is left out")
    if noise := machine.noise():
        results.note(f"the machine was not idle before the start: {noise}")
        print(f"warning: {results.notes[-1]}", file=sys.stderr)
    with _directory() as directory, load_generator() as load:
        tools = Tools(load, options.seconds, shutil.which("perf"))
        progress = Progress(options, len(names))
        for number in range(options.rounds):
            _round(number, names, options, directory, tools, results, progress)
    progress.end()
    if options.json:
        text = dump(results)
        if options.json == "-":
            sys.stdout.buffer.write(text)
        else:
            Path(options.json).write_bytes(text)
    if options.json != "-":
        tables.show(results, screen)
    return 0


def _round(
    number: int,
    names: Sequence[str],
    options: Options,
    directory: Path,
    tools: Tools,
    results: Results,
    progress: Progress,
) -> None:
    """Stand everyone up, measure, take everyone down."""
    with ExitStack() as stack:
        stands: dict[str, Stand] = {}
        for name in names:
            progress.tell(number, f"building {name}", STAND_SECONDS)
            place = directory / f"{number}-{name}"
            wire = _wire(options.wire[0])
            stands[name] = stack.enter_context(
                stand(BY_NAME[name], wire, place, options.flanneld)
            )
        for turn in _turns(number, names, options):
            it = stands[turn.contender]
            what = f"{turn.wire} {turn.measure.name} {turn.contender}"
            progress.tell(number, what, turn.measure.seconds(tools.seconds))
            it.rig.set_wire(turn.wire)
            try:
                it.check()
                values = turn.measure.run(tools, it)
            except RigError as error:
                results.note(f"round {number + 1}, {what}: {one_line(error)}")
                continue
            for metric, value in values.items():
                results.add(Place(turn.wire, turn.contender, metric), value)


def _turns(number: int, names: Sequence[str], options: Options) -> Iterator[Turn]:
    """All of a round. Who begins shifts with every measure and round."""
    shift = number
    for wire in options.wire:
        for measure in MEASURES:
            if measure.name not in options.measures:
                continue
            first = shift % len(names)
            for name in (*names[first:], *names[:first]):
                yield Turn(_wire(wire), measure, name)
            shift += 1


def _wire(name: str) -> Wire:
    (wire,) = (wire for wire in get_args(Wire) if wire == name)
    found: Wire = wire
    return found


class Progress:
    """One line on stderr: what goes on, and how long it will take yet."""

    def __init__(self, options: Options, contenders: int) -> None:
        self._screen = Screen(sys.stderr)
        self._rounds = options.rounds
        self._started = time.monotonic()
        self._done = 0.0
        """Of what was planned, in planned seconds."""
        self._now = 0.0
        turns = sum(
            measure.seconds(options.seconds)
            for measure in MEASURES
            if measure.name in options.measures
        )
        each = STAND_SECONDS + turns * len(options.wire)
        self._planned = each * contenders * options.rounds

    def tell(self, number: int, what: str, seconds: float) -> None:
        """Begin with something that should take so long."""
        self._done += self._now
        self._now = seconds
        left = self._planned - self._done
        if self._done:  # as fast or slow as so far
            left *= (time.monotonic() - self._started) / self._done
        minutes, rest = divmod(max(0, int(left)), 60)
        self._screen.progress(
            f"round {number + 1}/{self._rounds}, {minutes}:{rest:02} left: {what}"
        )

    def end(self) -> None:
        self._screen.progress("")


@contextmanager
def _directory() -> Iterator[Path]:
    with interrupts.held():
        directory = TemporaryDirectory(prefix="fl-")
    try:
        yield Path(directory.name)
    finally:
        with interrupts.held():
            directory.cleanup()


def _fail(error: Exception, code: int) -> int:
    print(f"flannelette bench: {one_line(error)}", file=sys.stderr)
    return code


def _some_of(*choices: str):  # type: ignore[no-untyped-def]
    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(text.split(",")))
        if not set(chosen) <= set(choices):
            raise ValueError(f"some of {','.join(choices)} are wanted")
        return chosen

    return read


def _positive(text: str) -> int:
    value = goflags.integer(text)
    if value < 1:
        raise ValueError("at least 1 is wanted")
    return value


FLAGS = (
    Flag(
        "wire",
        _some_of(*get_args(Wire)),
        "`LIST` of wires: some of " + ",".join(get_args(Wire)),
        "nic",
    ),
    Flag(
        "contenders",
        _some_of(*BY_NAME),
        "`LIST` of who is measured: some of " + ",".join(BY_NAME),
        ",".join(BY_NAME),
    ),
    Flag(
        "measures",
        _some_of(*(measure.name for measure in MEASURES)),
        "`LIST` of what is measured: some of " + ",".join(m.name for m in MEASURES),
        ",".join(measure.name for measure in MEASURES),
    ),
    Flag("rounds", _positive, "`NUMBER` of rounds", "3"),
    Flag("seconds", _positive, "`SECONDS` of a TCP run", "1"),
    Flag("flanneld", Path, "`PATH` of flanneld's program", str(FLANNELD)),
    Flag("json", str, "`FILE` to write the results to, or - for stdout"),
)
