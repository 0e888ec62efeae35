"""The processes that make the traffic (loadgen.py), as seen from the bench."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flannelette.benchmarks import netns
from flannelette.benchmarks.contenders import Stand
from flannelette.benchmarks.interrupts import held
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.rig import Pod
from flannelette.benchmarks.search import Trial

PATIENCE = 10.0
"""Seconds that an answer may take beyond the command's own."""
COMMAND = (sys.executable, "-m", "flannelette.benchmarks.loadgen")


class Worker:
    """A process that does one thing at a time; it is started when it is needed, and
    anew after a failure."""

    def __init__(
        self, command: Sequence[str] = COMMAND, name: str = "the load generator"
    ) -> None:
        self._command = command
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None

    def tell(self, **command: Any) -> None:
        """Send a command. Raises RigError, OSError."""
        if self._process is None:
            with held():
                self._process = _start(self._command)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def answer(self, seconds: float) -> Any:
        """The next answer, to a command that takes so long. Raises RigError."""
        assert self._process is not None
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds + PATIENCE)[0]:
            self.end()
            raise RigError(f"{self._name} does not answer")
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        return json.loads(line)

    def end(self) -> None:
        """Whatever it does; harmless when repeated."""
        with held():
            if self._process is not None:
                netns.end([self._process], grace=0)
                self._process = None

    def _died(self) -> RigError:
        assert self._process is not None
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode(errors="replace").splitlines()
        self.end()
        return RigError(f"{self._name} ended: {' '.join(lines[-1:])}")


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C is not for it
    )


@dataclass(frozen=True, slots=True)
class LoadGenerator:
    """A sender and a receiver, for all rigs."""

    sender: Worker
    receiver: Worker

    def echoes(self, stand: Stand, seconds: float, every: float) -> list[float]:
        """Round-trip times in seconds, from the first pod to the second.

        Raises RigError when there are none."""
        source, target = stand.pods
        self.sender.tell(
            do="ping",
            ns=source.ns,
            to=str(target.address),
            seconds=seconds,
            every=every,
        )
        rtts: list[float] = self.sender.answer(seconds)["rtts"]
        if not rtts:
            raise RigError(f"no answer to pings from {source.address}")
        return rtts

    def datagrams(
        self, stand: Stand, size: int, rate: float, seconds: float, segments: int = 1
    ) -> Trial:
        """UDP of `size` bytes at `rate` packets a second. Raises RigError."""
        with self.stream(*stand.pods, size, rate, seconds, segments) as arrived:
            return arrived()

    @contextmanager
    def stream(
        self,
        source: Pod,
        target: Pod,
        size: int,
        rate: float,
        seconds: float,
        segments: int = 1,
    ) -> Iterator[Callable[[], Trial]]:
        """The same beside what the body does, which calls for its end. Raises
        RigError."""
        try:
            yield self._begin(source, target, size, rate, seconds, segments)
        except BaseException:
            self.receiver.end()  # or it would answer to this when asked about the next
            self.sender.end()
            raise

    def _begin(
        self,
        source: Pod,
        target: Pod,
        size: int,
        rate: float,
        seconds: float,
        segments: int,
    ) -> Callable[[], Trial]:
        to = str(target.address)
        self.receiver.tell(
            do="receive",
            ns=target.ns,
            address=to,
            size=size,
            seconds=seconds + PATIENCE,
        )
        port = self.receiver.answer(0)["port"]
        self.sender.tell(
            do="send",
            ns=source.ns,
            to=to,
            port=port,
            size=size,
            rate=rate,
            seconds=seconds,
            segments=segments,
        )

        def arrived() -> Trial:
            sent = self.sender.answer(seconds)
            self.receiver.tell(do="stop")
            received = self.receiver.answer(PATIENCE)["packets"]
            return Trial(sent["packets"], received, sent["seconds"])

        return arrived


@contextmanager
def load_generator() -> Iterator[LoadGenerator]:
    """Its processes are gone when the `with` ends."""
    it = LoadGenerator(Worker(), Worker())
    try:
        yield it
    finally:
        it.sender.end()
        it.receiver.end()
