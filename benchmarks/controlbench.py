"""`flannelette bench-control`: one daemon in a large cluster, measured.

    flannelette bench-control                            # 10,000 nodes, two backends
    flannelette bench-control --leases=500 --seconds=3   # a look
    flannelette bench-control --backends=kernel --leases=1000 --json=FILE

Each backend has a cluster of its own (largecluster.py); what is measured, and what it
must not exceed, says controlmeasures.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec

from flannelette.benchmarks import command, interrupts, machine, rootless
from flannelette.benchmarks.controlmeasures import NETWORKS, Finding, churn, measure
from flannelette.benchmarks.netns import RigError, tool
from flannelette.benchmarks.results import ResultsError
from flannelette.benchmarks.screen import Screen
from flannelette.benchmarks.tables import labelled, number
from flannelette.benchmarks.worker import load_generator
from flannelette.control import goflags
from flannelette.control.goflags import Flag

FORMAT = 1
"""Of the JSON document; another number is another shape."""


@dataclass(frozen=True, slots=True)
class Options:
    """The flags, checked."""

    leases: int
    backends: tuple[str, ...]
    daemons: int
    seconds: int
    json: str
    """Where to write the results; empty: nowhere; -: stdout."""


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """A run in JSON."""

    format: int
    run: str
    started: str
    """ISO 8601, UTC."""
    machine: dict[str, str]
    settings: dict[str, int]
    notes: list[str]
    failures: list[str]
    """What could not be measured, and why."""
    findings: list[Finding]

    @property
    def passed(self) -> bool:
        return not self.failures and all(finding.met for finding in self.findings)


def main(argv: list[str]) -> int:
    """Run it; the exit code, which is also 1 where a limit is broken or something
    could not be measured. The others, and what is raised: command.run()."""
    return command.run("bench-control", argv, parse, usage, _run, ResultsError)


def parse(argv: Sequence[str]) -> Options:
    """Read the flags. Raises ConfigError, goflags.HelpWanted."""
    return Options(**goflags.defaults(FLAGS) | goflags.from_argv(FLAGS, argv))


def usage() -> str:
    """What `flannelette bench-control --help` prints."""
    return (
        "Usage: flannelette bench-control [flags]\n\n"
        "Measures a daemon in a large cluster of which all other nodes are leases in\n"
        "etcd: how soon it knows them, what it takes, how soon a change is applied\n"
        "while it forwards. Exits with 1 where a limit is broken.\n"
        + goflags.usage({"Flags": FLAGS})
    )


def _run(options: Options) -> int:
    to_stdout = options.json == "-"
    for needed in ("etcd", "ip"):
        tool(needed)
    if options.json and not to_stdout:
        command.check_writable(Path(options.json))
    rootless.become_privileged()
    document = Document(
        FORMAT,
        run=uuid4().hex[:8],
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.describe(None),
        settings={"leases": options.leases, "daemons": options.daemons},
        notes=[],
        failures=[],
        findings=[],
    )
    if noise := machine.noise():
        document.notes.append(f"the machine was not idle before the start: {noise}")
    _measure(options, document, Screen(sys.stderr))
    _show(document, Screen(sys.stderr if to_stdout else sys.stdout))
    saved = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
    if to_stdout:
        sys.stdout.buffer.write(saved)
    elif options.json:
        Path(options.json).write_bytes(saved)
    return 0 if document.passed else 1


def _measure(options: Options, document: Document, screen: Screen) -> None:
    """What cannot be measured is noted, and the others are."""
    with interrupts.directory() as directory, load_generator() as load:
        for backend in options.backends:
            findings = measure(
                backend, options.leases, options.seconds, load, directory / backend
            )
            _take(backend, findings, document, screen)
        if options.daemons:
            _take(
                "churn", churn(options.daemons, directory / "churn"), document, screen
            )
    screen.progress("")


def _take(
    name: str, findings: Iterator[Finding], document: Document, screen: Screen
) -> None:
    screen.progress(f"{name} ...")
    try:
        for finding in findings:
            document.findings.append(finding)
            screen.progress(f"{name}: {finding.about} {number(finding.value)}")
    except (RigError, OSError) as error:
        document.failures.append(f"{name}: {error}")


def _show(document: Document, screen: Screen) -> None:
    screen.title(f"flannelette bench-control, run {document.run}, {document.started}")
    settings = {name: f"{value:,}" for name, value in document.settings.items()}
    for name, text in (document.machine | settings).items():
        screen.say(labelled(name, text))
    for backend in dict.fromkeys(finding.backend for finding in document.findings):
        rows = [_row(it) for it in document.findings if it.backend == backend]
        screen.table([backend.upper(), "FOUND", "LIMIT", ""], rows)
    screen.say()
    for name, texts in (("note", document.notes), ("failed", document.failures)):
        for text in texts:
            screen.say(labelled(name, text))


def _row(finding: Finding) -> list[str]:
    unit = f" {finding.unit}" if finding.unit else ""
    found = f"{number(finding.value)}{unit}"
    if finding.limit is None:
        return [finding.about, found, "", ""]
    met = "met" if finding.met else "NOT MET"
    return [finding.about, found, f"{finding.limit:g}{unit}", met]


def _within(least: int, most: int) -> Callable[[str], int]:
    """A kind of flag: a whole number."""

    def read(text: str) -> int:
        value = goflags.integer(text)
        if not least <= value <= most:
            raise ValueError(f"{least} to {most} are possible")
        return value

    return read


def _backends(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(text.split(",")))
    if not set(chosen) <= set(NETWORKS):
        raise ValueError(f"some of {','.join(NETWORKS)} are wanted")
    return chosen


FLAGS = (
    Flag("leases", _within(20, 50_000), "`NUMBER` of other nodes", "10000"),
    Flag(
        "backends",
        _backends,
        "`LIST` of backends: udp, vxlan, and kernel, which is vxlan by the kernel",
        "udp,vxlan",
    ),
    Flag(
        "daemons",
        _within(0, 10_000),
        "`NUMBER` of daemons that come and go through the store's code; 0: none",
        "1000",
    ),
    Flag("seconds", _within(1, 600), "`SECONDS` of a stream of packets", "10"),
    Flag("json", str, "`FILE` to write the results to; - is stdout"),
)
