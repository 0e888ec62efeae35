"""`flannelette bench-restart`: what a restart of a daemon costs those who talk.

    flannelette bench-restart

Two hosts, their daemons under a service manager that keeps descriptors for them. While
TCP runs between two pods as fast as it can, a datagram is sent each millisecond beside
it; one daemon is restarted, that of the sender and then that of the receiver.
"""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flannelette.benchmarks import command, interrupts, iperf, rootless
from flannelette.benchmarks.cluster import Cluster
from flannelette.benchmarks.contenders import IPERF_PORT
from flannelette.benchmarks.mmsg import enlarge
from flannelette.benchmarks.netns import RigError, tool
from flannelette.benchmarks.results import ResultsError
from flannelette.benchmarks.rig import Pod, Rig
from flannelette.benchmarks.servicemanager import ServiceManager
from flannelette.control import goflags
from flannelette.control.goflags import Flag

TAKE_OVER = "take-over"
HOW = ("SIGTERM", "SIGKILL", TAKE_OVER)
PERIOD = 0.001
QUIET = 0.5
SECONDS = 6
"""Of one round; the restart comes after the first."""
PORT = 9
DEADLINE = 20.0
_SO_TIMESTAMPNS = 35
_STAMP = struct.Struct("@ll")
_SENT = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Probed:
    """What became of the datagrams."""

    sent: int
    received: int
    silence: float
    """The longest time in which none arrived, seconds."""


class Prober:
    """Sends a datagram each PERIOD from one pod, and receives at another."""

    def __init__(self, rig: Rig, source: Pod, target: Pod, version: int = 4) -> None:
        """`version`: of IP."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        address = target.address if version == 4 else target.address6
        with rig.inside(source.ns):
            self._out = socket.socket(family, socket.SOCK_DGRAM)
        with rig.inside(target.ns):
            self._in = socket.socket(family, socket.SOCK_DGRAM)
        self._in.bind(("", PORT))
        self._in.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._in.settimeout(QUIET)
        enlarge(self._in, 4 << 20)
        self._out.connect((str(address), PORT))
        self._stop = threading.Event()
        self._sent = 0
        self._stamps: list[float] = []
        self._threads = [threading.Thread(target=it) for it in (self._send, self._hear)]

    def __enter__(self) -> Prober:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._out.close()
        self._in.close()

    def _send(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self._out.send(_SENT.pack(self._sent))
            self._sent += 1
            due += PERIOD
            time.sleep(max(0.0, due - time.monotonic()))

    def _hear(self) -> None:
        """Until none has come for a while after the last was sent."""
        while True:
            try:
                _, controls, _, _ = self._in.recvmsg(64, 128)
            except TimeoutError:
                if self._stop.is_set():
                    return
                continue
            ((_, _, stamp),) = controls
            whole, part = _STAMP.unpack(stamp)
            self._stamps.append(whole + part / 1e9)

    def result(self) -> Probed:
        """After the `with`."""
        pairs = zip(self._stamps, self._stamps[1:], strict=False)
        silence = max((later - sooner for sooner, later in pairs), default=0.0)
        return Probed(self._sent, len(self._stamps), silence)


@dataclass(frozen=True, slots=True)
class Row:
    """One round."""

    how: str
    probed: Probed
    gigabits: float
    retransmits: int


class Bench:
    """Two hosts that talk."""

    def __init__(self, rig: Rig, cluster: Cluster, pods: tuple[Pod, Pod]) -> None:
        self._rig = rig
        self._cluster = cluster
        self._pods = pods

    def round(self, how: str, number: int | None = None) -> Row:
        """Restart the daemon of that host, or none. Raises RigError, OSError."""
        one, other = self._pods
        line = iperf.command(str(other.address), 1, SECONDS)
        with self._serving(other), Prober(self._rig, one, other) as prober:
            client = self._rig.popen(one.ns, line, stdout=subprocess.PIPE, text=True)
            time.sleep(1)
            if number is not None:
                self._restart(how, number)
            try:
                text, _ = client.communicate(timeout=SECONDS + DEADLINE)
            except subprocess.TimeoutExpired:
                raise RigError("iperf3 did not end in time") from None
        stream = iperf.parse(text)
        return Row(
            f"{how}, host {number}" if number else how,
            prober.result(),
            stream.bits_per_second / 1e9,
            stream.retransmits,
        )

    @contextmanager
    def _serving(self, pod: Pod) -> Iterator[None]:
        line = [tool("iperf3"), "--server", f"--port={IPERF_PORT}"]
        nothing = subprocess.DEVNULL
        server = self._rig.popen(pod.ns, line, stdout=nothing, stderr=nothing)
        time.sleep(0.3)
        try:
            yield
        finally:
            self._rig.stop(server)

    def _restart(self, how: str, number: int) -> None:
        process = self._cluster.daemons[number].process
        if how == TAKE_OVER:
            self._cluster.start_daemon(number, "--take-over")
        else:
            process.send_signal(signal.Signals[how])
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise RigError(f"host {number}'s daemon did not end by {how}") from None
        if how != TAKE_OVER:
            self._cluster.start_daemon(number)


@contextmanager
def bench(directory: Path) -> Iterator[Bench]:
    """Up, with routes both ways. Raises RigError, OSError."""
    with ExitStack() as stack:
        rig = stack.enter_context(Rig(2, "nic"))
        cluster = Cluster(rig, directory, store="etcd")
        for number in rig.numbers:
            manager = ServiceManager(rig, directory / f"m{number}")
            cluster.managers[number] = stack.enter_context(manager)
        cluster.start_store(time.monotonic() + DEADLINE)
        cluster.start()
        statuses = cluster.wait_connected(time.monotonic() + DEADLINE)
        one, other = (
            rig.pod(n, s["lease"]["subnet"], s["node"]["mtu"])
            for n, s in statuses.items()
        )
        yield Bench(rig, cluster, (one, other))


FLAGS: tuple[Flag, ...] = ()


def main(argv: list[str]) -> int:
    """Print a line for each round; the exit code."""
    return command.run("bench-restart", argv, parse, usage, _run, ResultsError)


def parse(argv: Sequence[str]) -> None:
    """There are no flags. Raises ConfigError, goflags.HelpWanted."""
    goflags.from_argv(FLAGS, argv)


def usage() -> str:
    return "Usage: flannelette bench-restart\n\nWhat a restart costs those who talk."


def _run(_: None) -> int:
    for needed in ("etcd", "ip", "iperf3"):
        tool(needed)
    rootless.become_privileged()
    print(f"{'':18}{'sent':>7}{'lost':>6}{'silence':>9}{'TCP':>13}{'again':>7}")
    with interrupts.directory() as directory, bench(directory) as it:
        rounds: list[tuple[str, int | None]] = [("none", None)]
        rounds += [(how, n) for how in HOW for n in (1, 2)]
        for how, number in rounds:
            _print(it.round(how, number))
    return 0


def _print(row: Row) -> None:
    probed = row.probed
    print(
        f"{row.how:18}{probed.sent:7}{probed.sent - probed.received:6}"
        f"{probed.silence * 1e3:6.0f} ms{row.gigabits:6.1f} Gbit/s{row.retransmits:7}"
    )
    sys.stdout.flush()
