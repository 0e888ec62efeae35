"""What the service manager hears of the daemon while it runs (sd_notify(3)).

READY=1   once subnet.env is there and the peers of the first snapshot have routes, or
          the store keeps us waiting for it: Docker needs the one, and whoever starts
          after us expects the other. flanneld does not wait for peers (4.2).
STATUS=   one line, when it has changed.
WATCHDOG=1  twice as often as asked for, while the event loop turns and the pumps run;
          without it, the manager ends us and starts us again.
RELOADING=1, STOPPING=1  as they happen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from flannelette.control.health.readiness import NotReady, Verdict
from flannelette.control.systemd.notify import Notifier
from flannelette.control.text import plural, printable

LOOK = 1.0
"""Seconds between two looks at what the status line says."""
PEERS_WAIT = 3.0
"""Seconds that the first snapshot may keep those waiting who start after us."""


@dataclass(frozen=True, slots=True)
class State:
    """What there is to tell."""

    verdict: Verdict
    subnets: str | None = None
    device: str | None = None
    peers: int = 0
    lacking: str | None = None
    """What is not as it should be, though pods may rely on the node."""
    pumping: bool = True
    """What should forward does so."""

    @property
    def line(self) -> str:
        """As STATUS= says it."""
        if isinstance(self.verdict, NotReady):
            return f"not ready: {self.verdict.reason}"
        device = f" on {self.device}" if self.device else ""
        lacking = f"; {self.lacking}" if self.lacking else ""
        return f"ready: {self.subnets}{device}, {plural(self.peers, 'peer')}{lacking}"


class Reporter:
    """Tells the service manager, as long as report() runs."""

    def __init__(self, notifier: Notifier, look: Callable[[], State]) -> None:
        self._notifier = notifier
        self._look = look
        self._said = ""
        self._ready = False
        self._succeeded = False

    async def report(self) -> None:
        """Until cancelled; at once if nobody listens."""
        if not self._notifier.enabled:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_status(), name="status")
            if self._notifier.watchdog is not None:
                pause = self._notifier.watchdog / 2
                tasks.create_task(self._keep_alive(pause), name="watchdog")

    async def _keep_status(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(LOOK)

    async def _keep_alive(self, pause: float) -> None:
        while True:
            if self._look().pumping:
                self._notifier.send("WATCHDOG=1")
            await asyncio.sleep(pause)

    def _tell(self, *lines: str) -> None:
        text = printable(self._look().line)
        if text != self._said:
            self._said = text
            lines = (*lines, f"STATUS={text}")
        if lines:
            self._notifier.send(*lines)

    async def announce(self, heard: asyncio.Event) -> None:
        """That we are ready: the rest of us is, `heard` is set once peers are."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PEERS_WAIT):
                await heard.wait()
        self.ready()

    def ready(self) -> None:
        """What comes after us may start."""
        self._ready = True
        self._tell("READY=1")

    def reload(self, what: Callable[[], None]) -> None:
        """Do this, which reloads something, and tell of it."""
        if self._ready:  # or READY=1 would come too early
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={now}")
        what()
        if self._ready:
            self._tell("READY=1")

    def succeeded_by(self, pid: int) -> None:
        """That process is the service from now on."""
        self._notifier.send(f"MAINPID={pid}")
        self._succeeded = True

    def stopping(self) -> None:
        """Nothing comes after that."""
        if not self._succeeded:
            self._notifier.send("STOPPING=1", "STATUS=stopping")
