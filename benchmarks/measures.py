"""The measures: what is done to a stand, and which figures that gives."""

from __future__ import annotations

import math
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from flannelette.benchmarks import account, iperf
from flannelette.benchmarks.account import Books
from flannelette.benchmarks.contenders import Stand
from flannelette.benchmarks.netns import RigError, tool
from flannelette.benchmarks.rig import Wire
from flannelette.benchmarks.search import MOST_TRIALS, Trial, search
from flannelette.benchmarks.worker import LoadGenerator

TCP_HEADERS = {4: 20 + 20 + 12, 6: 40 + 20 + 12}
"""Bytes of a packet that are not payload, by IP version: IP's, TCP's, and its
timestamps."""
TRIAL_SECONDS = 0.3
"""Of one offered rate; twice as long to confirm."""
FIRST_RATE = 60e3
FLOOR = 1e3
"""Packets a second: where a search begins, and where it gives up."""
SMALL, BULK = 64, 1400
"""Bytes of UDP payload."""
SEGMENTS = 65507 // BULK
"""As many as UDP_SEGMENT takes at once."""
ECHO_EVERY = 0.002
SETTLE = 0.3
"""Seconds that a TCP flow has to get going."""
SPARE = 5
"""Seconds more than wanted that the load beside echoes would run by itself."""


@dataclass(slots=True)
class Tools:
    """What measures work with."""

    load: LoadGenerator
    seconds: int
    """Of one TCP run; the others take their share."""
    perf: str | None
    """Where that program is; None: it cannot be used."""
    rates: dict[tuple[Wire, str, int], float] = field(default_factory=dict)
    """The last loss-free rates, packets a second: where the next searches begin."""


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


# ---- TCP -----------------------------------------------------------------------------


def _tcp1(tools: Tools, stand: Stand) -> Values:
    return one_flow(stand, tools.seconds)[0]


def one_flow(stand: Stand, seconds: int) -> tuple[Values, iperf.Stream]:
    """TCP of one flow: what it reached and what it cost. Raises RigError, OSError."""
    before = _books(stand)
    stream = iperf.run(stand, 1, seconds)
    cost = _books(stand) - before
    gigabytes = stream.bytes / 1e9
    values = {
        "tcp1": stream.bits_per_second / 1e9,
        "machine_gb": cost.machine / gigabytes,
        # The sender copies each byte into the kernel, the receiver out of it.
        "copies": 2 + cost.crossed / stream.bytes,
    }
    if stand.daemons:
        values["daemons_gb"] = cost.programs / gigabytes
        values["switches"] = cost.switches / full_packets(stand, stream.bytes)
    return values, stream


def full_packets(stand: Stand, size: int) -> float:
    """As how many packets so many bytes of TCP payload cross the overlay."""
    return size / (stand.mtu - TCP_HEADERS[stand.target.version])


def _tcp4(tools: Tools, stand: Stand) -> Values:
    return {"tcp4": iperf.run(stand, 4, tools.seconds).bits_per_second / 1e9}


def _syscalls(tools: Tools, stand: Stand) -> Values:
    """In a run of its own, for to count them costs time."""
    if not stand.daemons or tools.perf is None:
        return {}
    with TemporaryDirectory(prefix="fl-") as directory:
        output = Path(directory, "perf")
        pids = ",".join(map(str, stand.pids))
        perf = [*perf_command(tools.perf, output), "-p", pids, "--"]
        stream = iperf.run(stand, 1, tools.seconds, under=perf)
        calls = perf_count(output.read_text())
    return {"syscalls": calls / full_packets(stand, stream.bytes)}


def perf_command(perf: str, output: Path) -> list[str]:
    """Counts system calls of what follows, for perf_count() to read."""
    return [perf, "stat", "-e", "raw_syscalls:sys_enter", "-x,", "-o", str(output)]


def perf_count(text: str) -> int:
    """From `perf stat -x,`: the count of the only event. Raises RigError."""
    for line in text.splitlines():
        count = line.partition(",")[0]
        if count.isdecimal():
            return int(count)
    raise RigError("perf has not counted the system calls")


def find_perf() -> str:
    """Where a perf is that may count system calls. Raises RigError with the reason."""
    perf = tool("perf")
    with TemporaryDirectory(prefix="fl-") as directory:
        output = Path(directory, "perf")
        command = [*perf_command(perf, output), "--", perf, "--version"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            raise RigError("perf is not allowed to count system calls here")
        perf_count(output.read_text())
    return perf


def has_hardware_counters() -> bool:
    """Can perf count the processor's cycles here? Virtual machines often cannot."""
    try:
        perf = tool("perf")
    except RigError:
        return False
    with TemporaryDirectory(prefix="fl-") as directory:
        output = Path(directory, "perf")
        command = [perf, "stat", "-e", "cycles", "-x,", "-o", str(output)]
        subprocess.run(
            [*command, "--", perf, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        try:
            return perf_count(output.read_text()) > 0
        except (RigError, OSError):
            return False


# ---- UDP -----------------------------------------------------------------------------


def _udp64(tools: Tools, stand: Stand) -> Values:
    return small_datagrams(tools, stand, TRIAL_SECONDS, MOST_TRIALS)


def small_datagrams(tools: Tools, stand: Stand, seconds: float, most: int) -> Values:
    """The loss-free rate, by at most so many trials of so many seconds, and what it
    costs. Raises RigError, OSError."""
    costs: list[Books] = []

    def attempt(rate: float) -> Trial:
        return tools.load.datagrams(stand, SMALL, rate, seconds)

    def confirm(rate: float) -> Trial:
        before = _books(stand)
        trial = tools.load.datagrams(stand, SMALL, rate, 2 * seconds)
        costs.append(_books(stand) - before)
        return trial

    trial = _loss_free(tools, stand, SMALL, attempt, confirm, most)
    million = trial.received / 1e6
    values = {"udp64": trial.rate / 1e3, "machine_mpkt": costs[-1].machine / million}
    if stand.daemons:
        values["daemons_mpkt"] = costs[-1].programs / million
    return values


def _udp1400(tools: Tools, stand: Stand) -> Values:
    def attempt(rate: float) -> Trial:
        return tools.load.datagrams(stand, BULK, rate, TRIAL_SECONDS, SEGMENTS)

    def confirm(rate: float) -> Trial:
        return tools.load.datagrams(stand, BULK, rate, 2 * TRIAL_SECONDS, SEGMENTS)

    trial = _loss_free(tools, stand, BULK, attempt, confirm)
    return {"udp1400": trial.rate * BULK * 8 / 1e9}


def _loss_free(
    tools: Tools,
    stand: Stand,
    size: int,
    attempt: Callable[[float], Trial],
    confirm: Callable[[float], Trial],
    most: int = MOST_TRIALS,
) -> Trial:
    """Raises RigError when there is no such rate."""
    key = stand.rig.wire, stand.contender.name, size
    first = tools.rates.get(key, FIRST_RATE)
    trial = search(attempt, confirm, first, FLOOR, most)
    if trial is None:
        raise RigError(f"not even {FLOOR:.0f} packets a second arrive without loss")
    tools.rates[key] = trial.sent_rate
    return trial


# ---- delay ---------------------------------------------------------------------------


def _rtt(tools: Tools, stand: Stand) -> Values:
    return delays("rtt", tools.load.echoes(stand, tools.seconds, ECHO_EVERY))


def _rtt_load(tools: Tools, stand: Stand) -> Values:
    with iperf.background(stand, 1, tools.seconds + SPARE):
        time.sleep(SETTLE)
        rtts = tools.load.echoes(stand, tools.seconds, ECHO_EVERY)
    return delays("rtt_load", rtts)


def delays(key: str, rtts: Sequence[float]) -> Values:
    """Round-trip times in seconds, as figures of `key`."""
    return {
        key: statistics.median(rtts) * 1e6,
        f"{key}_p99": quantile(rtts, 0.99) * 1e6,
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that `share` of all do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


MEASURES = (
    Measure("tcp1", "TCP, one flow", _tcp1, lambda s: s + 0.3),
    Measure("tcp4", "TCP, four flows", _tcp4, lambda s: s + 0.3),
    Measure("udp64", "UDP of 64 B, loss-free rate", _udp64, lambda _: 4.0),
    Measure("udp1400", "UDP of 1400 B, loss-free", _udp1400, lambda _: 4.0),
    Measure("rtt", "RTT, an echo each 2 ms", _rtt, lambda s: s),
    Measure("rtt_load", "RTT beside a TCP flow", _rtt_load, lambda s: s + 0.6),
    Measure("syscalls", "system calls, by perf", _syscalls, lambda s: s + 0.5),
)
