"""The processes that make the traffic (loadgen.py), as seen from the bench."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flannelette.benchmarks import netns
from flannelette.benchmarks.contenders import Stand
from flannelette.benchmarks.interrupts import held
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.search import Trial

PATIENCE = 10.0
"""Seconds that an answer may take beyond the command's own."""
COMMAND = (sys.executable, "-m", "flannelette.benchmarks.loadgen")


class Worker:
    """One process of loadgen.py; it does one thing at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is not for it
        )

    def tell(self, **command: Any) -> None:
        """Send a command. Raises RigError."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def answer(self, seconds: float) -> Any:
        """The next answer, of a command that takes so long. Raises RigError."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds + PATIENCE)[0]:
            raise RigError("the load generator does not answer")
        line = self.process.stdout.readline()
        if not line:
            raise self._died()
        return json.loads(line)

    def _died(self) -> RigError:
        _, err = self.process.communicate()
        said = err.decode(errors="replace").strip().splitlines()[-1:]
        return RigError(f"the load generator ended: {' '.join(said)}")


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
        source, target = stand.pods
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
        sent = self.sender.answer(seconds)
        self.receiver.tell(do="stop")
        received = self.receiver.answer(PATIENCE)["packets"]
        return Trial(sent["packets"], received, sent["seconds"])


@contextmanager
def load_generator() -> Iterator[LoadGenerator]:
    """Both processes, gone when the `with` ends. Raises OSError."""
    workers: list[Worker] = []
    try:
        for _ in range(2):
            with held():
                workers.append(Worker())
        yield LoadGenerator(*workers)
    finally:
        with held():
            netns.end([worker.process for worker in workers], grace=0)
