"""What is promised, as medians or ratios of them; and whether a run has kept it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flannelette.benchmarks.contenders import OURS, VXLAN, VXLAN6
from flannelette.benchmarks.micro import FEW, MANY, NO_WIRE
from flannelette.benchmarks.results import Results, ratio


@dataclass(frozen=True, slots=True)
class Bar:
    """Ours over a rival's, or by itself: so much at least, or at most."""

    about: str
    wire: str
    metric: str
    rival: str | None
    """None: ours is judged by itself."""
    limit: float
    """So many times the rival's; by itself in the metric's unit."""
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
    Bar("VXLAN, TCP, 1 flow", "nic", "tcp1", "vxlan", 1.8, ours=VXLAN),
    Bar("VXLAN, TCP, 1 flow", "plain", "tcp1", "vxlan", 1.0, ours=VXLAN),
    Bar("VXLAN, TCP, 1 flow", "veth", "tcp1", "vxlan", 0.7, ours=VXLAN),
    Bar("VXLAN, TCP, 1 flow", "nic", "tcp1", OURS, 0.95, ours=VXLAN),
    Bar("the same over IPv6", "nic", "tcp1", VXLAN, 0.9, ours=VXLAN6),
    Bar("join of 1,000, udp", NO_WIRE, "join", None, 1.0, at_most=True),
    Bar("join of 1,000, VXLAN", NO_WIRE, "join", None, 1.0, at_most=True, ours=VXLAN),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a bar."""

    bar: Bar
    found: float | None
    """As the bar's limit; None: not measured."""

    @property
    def met(self) -> bool:
        if self.found is None:
            return False
        if self.bar.at_most:
            return self.found <= self.bar.limit
        return self.found >= self.bar.limit


def judge(results: Results, bars: Sequence[Bar] = BARS) -> list[Verdict]:
    """Each bar's verdict, in their order."""
    return [Verdict(bar, _found(results, bar)) for bar in bars]


def _found(results: Results, bar: Bar) -> float | None:
    ours = results.figure(bar.wire, bar.ours, bar.metric)
    if ours is None:
        return None
    if bar.rival is None:
        return ours.median
    theirs = results.figure(bar.wire, bar.rival, bar.metric)
    return ratio(ours, theirs) if theirs else None
