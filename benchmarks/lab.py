"""`flannelette lab`: what copying costs, made visible on this machine.

    flannelette lab                          # lab.html and lab.json, in about 3 minutes
    flannelette lab --quick                  # a look
    flannelette lab --rungs=python,c,thread --output=/tmp/mine.html
    flannelette lab --show lab.json          # the page of a saved run, again

The run is in labrun.py, the document that it gives in labdocument.py, the page in
report.py.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from flannelette.benchmarks import command, interrupts, labdocument, labrun, rootless
from flannelette.benchmarks.labdocument import Document, DocumentError
from flannelette.benchmarks.labplan import FULL, MEASURES, QUICK, Wish
from flannelette.benchmarks.labrungs import BY_RUNG
from flannelette.benchmarks.netns import tool
from flannelette.benchmarks.rig import Wire
from flannelette.benchmarks.screen import Screen
from flannelette.control import goflags
from flannelette.control.errors import ConfigError, ControlError
from flannelette.control.goflags import Flag
from flannelette.control.observe import extras


@dataclass(frozen=True, slots=True)
class Options:
    """The flags, checked."""

    wish: Wish
    page: Path
    """To write; the document goes beside it."""
    show: Path | None
    """A saved document to make a page of; nothing is measured then."""

    @property
    def document(self) -> Path:
        return self.page.with_suffix(".json")


def main(argv: list[str]) -> int:
    """Run the lab; the exit code, and what is raised: command.run()."""
    return command.run("lab", argv, parse, usage, _run, DocumentError)


def parse(argv: Sequence[str]) -> Options:
    """Read the flags. Raises ConfigError, goflags.HelpWanted."""
    chosen = goflags.defaults(FLAGS) | goflags.from_argv(FLAGS, argv)
    depth = QUICK if chosen["quick"] else FULL
    if chosen["rounds"]:
        depth = replace(depth, rounds=chosen["rounds"])
    repeat = shlex.join(["flannelette", "lab", *argv])
    wish = Wish(chosen["wire"], chosen["rungs"], chosen["measures"], depth, repeat)
    show = chosen["show"]
    page = chosen["output"] or (show or Path("lab")).with_suffix(".html")
    if page.suffix == ".json":
        raise ConfigError("invalid value for --output: the page cannot end in .json")
    return Options(wish, page, show)


def usage() -> str:
    """What `flannelette lab --help` prints."""
    rungs = "".join(f"\n  {kind.name:8} {kind.title}" for kind in BY_RUNG.values())
    return (
        "Usage: flannelette lab [flags]\n"
        "       flannelette lab [--output=PAGE] --show FILE.json\n\n"
        "Measures on this machine what each way to forward packets costs, and writes\n"
        "a page that shows it, with a document of all numbers (.json) beside it; or\n"
        "makes the page of such a document again.\n\n"
        f"Rungs of the ladder:{rungs}\n" + goflags.usage({"Flags": FLAGS})
    )


def _run(options: Options) -> int:
    return _lab(options) if options.show is None else _show(options, options.show)


def _lab(options: Options) -> int:
    tool("iperf3")
    tool("ethtool")
    for path in (options.page, options.document):
        command.check_writable(path)
    can_draw = _can_draw()
    rootless.become_privileged()
    document = labrun.run(options.wish, Screen(sys.stderr))
    with interrupts.held():
        options.document.write_bytes(labdocument.dump(document))
        print(options.document)
        if can_draw:
            _draw(document, options.page)
    return 0


def _show(options: Options, file: Path) -> int:
    """Raises DocumentError, HostError, OSError."""
    try:
        document = labdocument.load(file.read_bytes())
    except DocumentError as error:
        raise DocumentError(f"{file}: {error}") from None
    _draw(document, options.page)
    return 0


def _can_draw() -> bool:
    """Can a page be made? Said before the run, which takes its time."""
    try:
        extras.need("plotly", "lab's page")
    except ControlError as error:
        print(f"{error}; only the document is written", file=sys.stderr)
        return False
    return True


def _draw(document: Document, page: Path) -> None:
    """Raises HostError without plotly, OSError."""
    extras.need("plotly", "lab's page")
    from flannelette.benchmarks import report

    page.write_text(report.render(document), encoding="utf-8")
    print(page)


def _rungs(text: str) -> tuple[str, ...]:
    chosen = tuple(BY_RUNG) if text == "all" else tuple(dict.fromkeys(text.split(",")))
    if not set(chosen) <= BY_RUNG.keys():
        raise ValueError(f"all or some of {','.join(BY_RUNG)} are wanted")
    return chosen


def _measures(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if "tcp1" not in chosen or not set(chosen) <= set(MEASURES):
        raise ValueError(f"tcp1 and some of {','.join(MEASURES[1:])} are wanted")
    return chosen


def _rounds(text: str) -> int:
    value = goflags.integer(text)
    if not 0 <= value <= 100:
        raise ValueError("0 to 100 are possible")
    return value


def _path(text: str) -> Path | None:
    return Path(text) if text else None


FLAGS = (
    Flag("show", _path, "`FILE` of a saved run: make its page, and measure nothing"),
    Flag("quick", goflags.boolean, "one round, and fewer looks: under 45 s", "false"),
    Flag("output", _path, "`PAGE` to write; unless told, lab.html"),
    Flag("rungs", _rungs, "`LIST` of rungs, or all", "all"),
    Flag(
        "measures",
        _measures,
        "`LIST` of measures: tcp1 (TCP, with the counts), rtt (delays), udp64 (small"
        " packets a second)",
        ",".join(MEASURES),
    ),
    Flag(
        "wire",
        goflags.one_of(*get_args(Wire)),
        "`WIRE` of the rig: nic (no tunnel offload), plain (none) or veth (all)",
        "nic",
    ),
    Flag("rounds", _rounds, "`NUMBER` of rounds that fit; 0: 3, or 1 if quick", "0"),
)
