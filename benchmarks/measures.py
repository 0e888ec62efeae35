"""The measures: what is done to a stand, and which figures that gives."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flannelette.benchmarks import account, iperf
from flannelette.benchmarks.account import Books
from flannelette.benchmarks.contenders import Stand
from flannelette.benchmarks.worker import LoadGenerator

ECHO_EVERY = 0.002
TCP_HEADERS = 20 + 20 + 12
"""Bytes of a packet that are not payload: IPv4's, TCP's, and its timestamps."""


@dataclass(slots=True)
class Tools:
    """What measures work with."""

    load: LoadGenerator
    seconds: int
    """Of one TCP run; the others take their share."""
    rates: dict[tuple[str, str], float] = field(default_factory=dict)
    """The last loss-free rate, packets a second, by contender and measure: where the
    next search begins."""


Values = dict[str, float]
"""By key of METRICS."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is done once a round."""

    name: str
    about: str
    run: Callable[[Tools, Stand], Values]
    """Raises RigError, OSError."""
    seconds: Callable[[int], float]
    """About how long it takes, for Tools.seconds: for the time left."""


def _books(stand: Stand) -> Books:
    return account.read(stand.pids, stand.tun)


def _tcp1(tools: Tools, stand: Stand) -> Values:
    before = _books(stand)
    stream = iperf.run(stand, 1, tools.seconds)
    cost = _books(stand) - before
    gigabytes = stream.bytes / 1e9
    values = {
        "tcp1": stream.bits_per_second / 1e9,
        "machine_gb": cost.machine / gigabytes,
        # The sender copies each byte into the kernel, the receiver out of it.
        "copies": 2 + cost.crossed / stream.bytes,
    }
    if stand.daemons:
        packets = stream.bytes / (stand.mtu - TCP_HEADERS)
        values["daemons_gb"] = cost.programs / gigabytes
        values["switches"] = cost.switches / packets
    return values


def _tcp4(tools: Tools, stand: Stand) -> Values:
    return {"tcp4": iperf.run(stand, 4, tools.seconds).bits_per_second / 1e9}


def _rtt(tools: Tools, stand: Stand) -> Values:
    return _delays("rtt", tools.load.echoes(stand, tools.seconds, ECHO_EVERY))


def _delays(key: str, rtts: Sequence[float]) -> Values:
    return {
        key: statistics.median(rtts) * 1e6,
        f"{key}_p99": quantile(rtts, 0.99) * 1e6,
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that `share` of all do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


MEASURES = (
    Measure("tcp1", "TCP, one flow (iperf3)", _tcp1, lambda s: s + 0.3),
    Measure("tcp4", "TCP, four flows (iperf3)", _tcp4, lambda s: s + 0.3),
    Measure("rtt", "RTT, one echo each 2 ms", _rtt, lambda s: s),
)
