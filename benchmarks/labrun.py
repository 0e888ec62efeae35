"""A run of the lab: the ladder in rounds, then a look at each rung by itself.

The rounds are the bench's (series.py): all rungs stand side by side and take turns,
measure by measure, so that what the machine does meanwhile happens to all of them. The
daemons' counts are those of the last round's TCP run, which nothing disturbs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec

from flannelette.benchmarks import (
    interrupts,
    labcounts,
    machine,
    measures,
    results as benchresults,
)
from flannelette.benchmarks.cluster import Daemon
from flannelette.benchmarks.contenders import Stand
from flannelette.benchmarks.labcloser import NOWHERE, Closer
from flannelette.benchmarks.labdocument import FORMAT, Document, Rung
from flannelette.benchmarks.labplan import (
    EVERY,
    FIRST_RATE,
    FIRST_RATES,
    RUN_SECONDS,
    TCP_SECONDS,
    TIMERS,
    Findings,
    Found,
    Wish,
)
from flannelette.benchmarks.labrungs import BY_RUNG
from flannelette.benchmarks.measures import ECHO_EVERY, Measure, Tools, Values
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.results import Place, Results
from flannelette.benchmarks.screen import Screen
from flannelette.benchmarks.series import Plan, Progress, Series
from flannelette.benchmarks.worker import load_generator

TRIAL_MORE = 0.12
"""Seconds that a trial takes beyond its sending."""


class Meter:
    """The lab's measures, and where their counts go."""

    def __init__(self, wish: Wish, findings: Findings) -> None:
        self._wish = wish
        self._depth = wish.depth
        self._findings = findings

    @property
    def measures(self) -> tuple[Measure, ...]:
        """MEASURES of labplan.py."""
        depth = self._depth
        trial = depth.trial_seconds + TRIAL_MORE
        search = (depth.trials + 1) * trial + depth.trial_seconds
        return (
            Measure("tcp1", "TCP, one flow", self._tcp, lambda _: RUN_SECONDS),
            Measure("rtt", "RTT", self._echoes, lambda _: depth.echo_seconds),
            Measure("udp64", "UDP of 64 B", self._datagrams, lambda _: search),
        )

    def _tcp(self, tools: Tools, it: Stand) -> Values:
        before = labcounts.look(it)
        values, stream = measures.one_flow(it, tools.seconds)
        after = labcounts.look(it)
        seconds = stream.bytes * 8 / stream.bits_per_second
        kind = BY_RUNG[it.contender.name]
        counts = labcounts.counts(kind, it.mtu, before, after, stream.bytes, seconds)
        found = Found(it.mtu, counts)
        if kind in self._wish.timed and not self._depth.closer:
            found.stages = labcounts.stages(before, after)
        self._findings.rungs[kind.name] = found
        self._note_offloads(it)
        return values

    def _datagrams(self, tools: Tools, it: Stand) -> Values:
        depth = self._depth
        return measures.small_datagrams(tools, it, depth.trial_seconds, depth.trials)

    def _echoes(self, tools: Tools, it: Stand) -> Values:
        rtts = tools.load.echoes(it, self._depth.echo_seconds, ECHO_EVERY)
        return measures.delays("rtt", rtts)

    def _note_offloads(self, it: Stand) -> None:
        for daemon in it.daemons[:1]:
            assert isinstance(daemon, Daemon)
            if status := daemon.status():
                granted = tuple(status["node"]["offloads"])
                self._findings.offloads = max(self._findings.offloads, granted, key=len)


def run(wish: Wish, screen: Screen) -> Document:
    """All of it. Raises RigError when nothing could be measured, OSError."""
    started = time.monotonic()
    results = Results(
        run=uuid4().hex[:8],
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.describe(None),
        settings={"rounds": f"{wish.depth.rounds}, TCP runs of {TCP_SECONDS} s"},
    )
    del results.machine["flanneld"]  # on no rung
    if noise := machine.noise():
        results.note(f"the machine was not idle before the start: {noise}")
        screen.say(f"warning: {results.notes[-1]}")
    findings = Findings()
    plan = Plan(
        wish.depth.rounds,
        TCP_SECONDS,
        (wish.wire,),
        wish.rungs,
        wish.measures,
        NOWHERE,
        Meter(wish, findings).measures,
        () if wish.depth.closer else (TIMERS,),
    )
    progress = Progress(plan, screen, wish.seconds_after)
    with (
        load_generator() as load,
        machine.stolen() as stolen,
        interrupts.directory() as directory,
    ):
        tools = Tools(load, TCP_SECONDS, perf=None)
        for name in wish.rungs:
            first = FIRST_RATES.get(name, FIRST_RATE)
            tools.rates[wish.wire, name, measures.SMALL] = first
        _rounds(wish, Series(plan, tools, results, progress), results, directory)
        if wish.depth.closer:
            Closer(wish, findings, results, directory, progress).look()
    progress.end()
    if not findings.rungs:
        notes = "; ".join(map(_in_one_line, results.notes))
        raise RigError(f"no rung could be measured: {notes}")
    results.machine["stolen"] = f"{stolen():.1%} of the processors, by the hypervisor"
    return document(wish, findings, results, time.monotonic() - started)


def _rounds(wish: Wish, series: Series, results: Results, directory: Path) -> None:
    """As many as fit."""
    started = time.monotonic()
    for number in range(wish.depth.rounds):
        if not wish.fits(number, time.monotonic() - started):
            results.note(f"only {number} of {wish.depth.rounds} rounds: time was short")
            return
        series.round(number, directory)


def document(
    wish: Wish, findings: Findings, results: Results, seconds: float
) -> Document:
    """All that was found; notes and figures that follow from it are added."""
    _fill_in_calls(wish, findings, results)
    for note in _notes(wish):
        results.note(note)
    rungs = [
        Rung(
            kind.name,
            kind.title,
            kind.switched,
            kind.gain,
            kind.contender.flags,
            found.mtu,
            found.counts,
            found.checks,
            found.stages,
        )
        for kind in wish.kinds
        if (found := findings.rungs.get(kind.name))
    ]
    return Document(
        FORMAT,
        wish.command,
        wish.wire,
        seconds,
        results.machine,
        findings.offloads,
        msgspec.Raw(benchresults.dump(results)),
        tuple(rungs),
        findings.timers,
        tuple(map(_in_one_line, results.notes)),
    )


def _in_one_line(note: str) -> str:
    """One that quotes a daemon's log has several."""
    return " ".join(note.split())


def _fill_in_calls(wish: Wish, findings: Findings, results: Results) -> None:
    """System calls per packet by the daemons' counts, where no tracepoint has them."""
    for name, found in findings.rungs.items():
        counts = found.counts
        if not counts.daemons or results.figure(wish.wire, name, "syscalls"):
            continue
        calls = sum(it.calls or 0 for it in (*counts.there, *counts.back))
        calls += sum(daemon.pumps or 0 for daemon in counts.daemons)
        results.add(Place(wish.wire, name, "syscalls"), calls / counts.packets)
        results.note(
            "system calls per packet are those that the daemons count: on the TUN, on"
            " the socket, and wake-ups"
        )


def _notes(wish: Wish) -> Iterator[str]:
    """What must be known to read the numbers."""
    yield (
        f"both hosts, their applications and their daemons share {machine.CORES}"
        " processors: between real hosts, each with its own, rates are higher"
    )
    yield (
        "on this rig a send or a write often takes a packet all the way up to the other"
        " end's socket before it returns, so that its time holds the receiver's stack"
        " as well"
    )
    yield "bytes that the kernel copies within itself are not counted"
    if any(kind.name == "python" for kind in wish.kinds):
        yield "python: PurePath has no timers, so its time is not divided into stages"
    if wish.depth.closer and wish.daemons:
        yield (
            "checks: one wake-up may call the pumps of both directions, and"
            f" {labcounts.COPIES} misses datagrams that lie in one piece in the"
            " kernel, as they do where they come one by one"
        )
    elif wish.daemons:
        yield (
            "a quick run: the timers were on in the rounds (one pump call in"
            f" {EVERY}), and the counts are not checked by the kernel's tracepoints"
        )
    if not measures.has_hardware_counters():
        yield (
            "cycles and cache misses cannot be measured: this machine gives no hardware"
            " counters, or has no perf that reads them"
        )
