"""What each step of the ladder has changed, as far as the rounds can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flannelette.benchmarks.labdocument import Rung
from flannelette.benchmarks.results import Figure, Results, ratio

LOOKED_AT = {
    "tcp1": ("TCP, one flow", True),
    "udp64": ("small packets", True),
    "rtt": ("round-trip time", False),
    "copies": ("bytes copied", False),
    "daemons_gb": ("processor time", False),
    "syscalls": ("system calls", False),
    "switches": ("context switches", False),
}
"""Metric → what to call it, and whether more of it is better."""


Verdict = Literal["better", "worse", "open", "none"]
"""open: one round cannot tell; none: within the spread of the rounds, or next to 1."""
_NEXT = 0.01


@dataclass(frozen=True, slots=True)
class Change:
    """Of one metric, from one rung to another."""

    metric: str
    title: str
    factor: float
    """Of the medians."""
    verdict: Verdict


def changes(ladder: Results, wire: str, before: Rung, after: Rung) -> list[Change]:
    """Those of LOOKED_AT that were measured of both."""
    found = []
    for metric, (title, more) in LOOKED_AT.items():
        old = ladder.figure(wire, before.name, metric)
        new = ladder.figure(wire, after.name, metric)
        factor = ratio(new, old) if old and new else None
        if old and new and factor is not None:
            verdict = _verdict(old, new, factor, more)
            found.append(Change(metric, title, factor, verdict))
    return found


def bottom_and_top(rungs: Sequence[Rung]) -> tuple[Rung, Rung] | None:
    """The first and the last that are ours; None if there are no two."""
    ours = [rung for rung in rungs if rung.flags is not None]
    return (ours[0], ours[-1]) if len(ours) > 1 else None


def _verdict(old: Figure, new: Figure, factor: float, more: bool) -> Verdict:
    """There is a change where all rounds of one lie above all rounds of the other."""
    if abs(factor - 1) < _NEXT:
        return "none"
    if min(len(old.values), len(new.values)) == 1:
        return "open"
    low, high = sorted((old, new), key=lambda figure: figure.median)
    if max(low.values) >= min(high.values):
        return "none"
    return "better" if (factor > 1) == more else "worse"
