"""What the fast path promises, as ratios of medians; and whether a run has kept it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flannelette.benchmarks.contenders import OURS
from flannelette.benchmarks.micro import FEW, MANY, NO_WIRE
from flannelette.benchmarks.results import Results, ratio


@dataclass(frozen=True, slots=True)
class Bar:
    """Ours over a rival's: so many times at least, or at most."""

    about: str
    wire: str
    metric: str
    rival: str
    times: float
    at_most: bool = False
    ours: str = OURS


BARS = (
    Bar("TCP, 1 flow", "nic", "tcp1", "vxlan", 2.0),
    Bar("TCP, 4 flows", "nic", "tcp4", "vxlan", 2.0),
    Bar("TCP, 1 flow", "plain", "tcp1", "vxlan", 1.1),
    Bar("TCP, 1 flow", "veth", "tcp1", "vxlan", 0.75),
    Bar("TCP, 1 flow", "nic", "tcp1", "flanneld", 25.0),
    Bar("UDP of 64 B, loss-free", "nic", "udp64", "flanneld", 3.0),
    Bar("CPU per GB, daemons", "nic", "daemons_gb", "flanneld", 1 / 12, at_most=True),
    Bar("RTT idle, median", "nic", "rtt", "flanneld", 0.8, at_most=True),
    Bar("UDP of 1400 B", "nic", "udp1400", "flanneld", 10.0),
    Bar("route lookup, 65,536", NO_WIRE, "lookup", FEW, 1.3, at_most=True, ours=MANY),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a bar."""

    bar: Bar
    found: float | None
    """None: not measured."""

    @property
    def met(self) -> bool:
        if self.found is None:
            return False
        if self.bar.at_most:
            return self.found <= self.bar.times
        return self.found >= self.bar.times


def judge(results: Results, bars: Sequence[Bar] = BARS) -> list[Verdict]:
    """Each bar's verdict, in their order."""
    verdicts = []
    for bar in bars:
        ours = results.figure(bar.wire, bar.ours, bar.metric)
        theirs = results.figure(bar.wire, bar.rival, bar.metric)
        found = ratio(ours, theirs) if ours and theirs else None
        verdicts.append(Verdict(bar, found))
    return verdicts
