"""`flannelette bench`: the overlay measured beside others, all in one run.

    flannelette bench                        # all that the bars need, and the ladder
    flannelette bench --quick                # a look
    flannelette bench --wire=nic --contenders=vxlan,thread --measures=tcp1 --rounds=5
    flannelette bench --json=FILE --bars     # exit code 1 if a bar is not met
    flannelette bench --show FILE            # what was saved

Ratios are drawn within a run only (results.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import get_args
from uuid import uuid4

from flannelette.benchmarks import command, machine, rootless, series, tables
from flannelette.benchmarks.bars import judge
from flannelette.benchmarks.contenders import BY_NAME, MAIN
from flannelette.benchmarks.measures import MEASURES, Tools, find_perf
from flannelette.benchmarks.micro import MICROS
from flannelette.benchmarks.netns import RigError, tool
from flannelette.benchmarks.results import Results, ResultsError, dump, load, only_run
from flannelette.benchmarks.rig import Wire
from flannelette.benchmarks.screen import Screen
from flannelette.benchmarks.series import Plan
from flannelette.benchmarks.worker import load_generator
from flannelette.control import goflags
from flannelette.control.errors import ConfigError
from flannelette.control.goflags import Flag

FLANNELD = machine.HERE / "build" / "peers" / "flanneld"
ABOUT = {m.name: m.about for m in MEASURES} | {m.name: m.about for m in MICROS}
"""All measures."""
QUICK = {"wire": ("nic",), "contenders": MAIN, "rounds": 1}


@dataclass(frozen=True, slots=True)
class Options:
    """The flags, checked."""

    plan: Plan
    json: str
    """Where to write the results; empty: nowhere; -: stdout."""
    bars: bool
    show: tuple[Path, ...] = ()
    """Saved results to print; nothing is measured then."""


def main(argv: list[str]) -> int:
    """Run the bench; the exit code, which is also 1 when a bar is not met, and 2 for
    ratios across runs. The others, and what is raised: command.run()."""
    return command.run("bench", argv, parse, usage, _run, ResultsError)


def parse(argv: Sequence[str]) -> Options:
    """Read the flags; --show takes what follows it, up to a flag, as files. Raises
    ConfigError, goflags.HelpWanted."""
    flags, files = _split(argv)
    given = goflags.from_argv(FLAGS, flags)
    chosen = goflags.defaults(FLAGS) | (QUICK if given.get("quick") else {}) | given
    plan = Plan(
        chosen["rounds"],
        chosen["seconds"],
        chosen["wire"],
        chosen["contenders"],
        chosen["measures"],
        chosen["flanneld"],
    )
    return Options(plan, chosen["json"], chosen["bars"], files)


def _split(argv: Sequence[str]) -> tuple[list[str], tuple[Path, ...]]:
    """The flags, and the files of --show among them. Raises ConfigError."""
    if "--show" not in argv:
        return list(argv), ()
    at = argv.index("--show")
    before, after = argv[:at], argv[at + 1 :]
    files = list(takewhile(lambda word: not word.startswith("-"), after))
    if not files:
        raise ConfigError("flag --show needs a file")
    return [*before, *after[len(files) :]], tuple(map(Path, files))


def usage() -> str:
    """What `flannelette bench --help` prints."""
    kinds = "".join(f"\n  {c.name:11} {c.about}" for c in BY_NAME.values())
    measures = "".join(f"\n  {name:11} {about}" for name, about in ABOUT.items())
    return (
        "Usage: flannelette bench [flags]\n"
        "       flannelette bench [--bars] --show FILE...\n\n"
        "Measures overlays between two hosts made of network namespaces, beside each\n"
        "other, or prints what was saved.\n\n"
        f"Contenders:{kinds}\n\nMeasures:{measures}\n" + goflags.usage({"Flags": FLAGS})
    )


def _run(options: Options) -> int:
    return _show(options) if options.show else _bench(options)


def _bench(options: Options) -> int:
    plan, to_stdout = options.plan, options.json == "-"
    tool("iperf3")
    tool("ethtool")
    if options.json and not to_stdout:
        command.check_writable(Path(options.json))
    rootless.become_privileged()
    has_flanneld = os.access(plan.flanneld, os.X_OK)
    results = Results(
        run=uuid4().hex[:8],
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.describe(plan.flanneld if has_flanneld else None),
        settings={"rounds": f"{plan.rounds}, TCP runs of {plan.seconds} s"},
    )
    if noise := machine.noise():
        results.note(f"the machine was not idle before the start: {noise}")
        print(f"warning: {results.notes[-1]}", file=sys.stderr)
    with load_generator() as generator, machine.stolen() as stolen:
        perf = None
        try:
            perf = find_perf()
        except RigError as error:
            results.note(f"system calls are not counted: {error}")
        tools = Tools(generator, plan.seconds, perf)
        series.run(plan, tools, results, Screen(sys.stderr))
    results.machine["stolen"] = f"{stolen():.1%} of the processors, by the hypervisor"
    code = _report(results, options, Screen(sys.stderr if to_stdout else sys.stdout))
    if to_stdout:
        sys.stdout.buffer.write(dump(results))
    elif options.json:
        Path(options.json).write_bytes(dump(results))
    return code


def _report(results: Results, options: Options, screen: Screen) -> int:
    """The tables; the exit code."""
    tables.show(results, screen)
    verdicts = judge(results)
    measured = [verdict for verdict in verdicts if verdict.found is not None]
    tables.show_bars(verdicts if options.bars else measured, screen)
    if options.bars and not all(verdict.met for verdict in verdicts):
        return 1
    return 0 if list(results) else 1


def _show(options: Options) -> int:
    """Each file by itself. Raises ResultsError, OSError."""
    several = []
    for path in options.show:
        try:
            several.append(load(path.read_bytes()))
        except ResultsError as error:
            raise ResultsError(f"{path}: {error}") from None
    if options.bars:
        several = [only_run(several)]
    codes = [_report(results, options, Screen()) for results in several]
    return max(codes)


def _some_of(*choices: str) -> Callable[[str], tuple[str, ...]]:
    """A kind of flag: a list of these words."""

    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(text.split(",")))
        if not set(chosen) <= set(choices):
            raise ValueError(f"some of {','.join(choices)} are wanted")
        return chosen

    return read


def _auto_or(
    kind: Callable[[str], tuple[str, ...]],
) -> Callable[[str], tuple[str, ...] | None]:
    return lambda text: None if text == "auto" else kind(text)


def _positive(text: str) -> int:
    value = goflags.integer(text)
    if not 1 <= value <= 1000:
        raise ValueError("1 to 1000 are possible")
    return value


FLAGS = (
    Flag(
        "wire",
        _some_of(*get_args(Wire)),
        "`LIST` of wires: nic (no tunnel offload), plain (none), veth (all)",
        "nic,plain,veth",
    ),
    Flag(
        "contenders",
        _auto_or(_some_of(*BY_NAME)),
        "`LIST` of contenders; auto: all on nic, elsewhere " + ",".join(MAIN),
        "auto",
    ),
    Flag(
        "measures",
        _auto_or(_some_of(*ABOUT)),
        "`LIST` of measures; auto: all on nic, elsewhere tcp1,tcp4",
        "auto",
    ),
    Flag("rounds", _positive, "`NUMBER` of rounds", "5"),
    Flag("seconds", _positive, "`SECONDS` of a TCP run", "1"),
    Flag(
        "quick",
        goflags.boolean,
        f"one round of {','.join(MAIN)} on nic, unless told otherwise",
        "false",
    ),
    Flag("flanneld", Path, "`PATH` of flanneld's program", str(FLANNELD)),
    Flag("json", str, "`FILE` to write the results to; - is stdout"),
    Flag("bars", goflags.boolean, "exit with 1 if a bar is not met", "false"),
)
