"""What the service manager hears, in which order, and what keeps it from hearing."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from flannelette.control.health.readiness import Cause, NotReady, Ready
from flannelette.control.systemd import reporter
from flannelette.control.systemd.notify import Notifier
from flannelette.control.systemd.reporter import Reporter, State

STARTING = State(NotReady({Cause.STARTING: "etcd does not answer"}))
READY = State(Ready(), "10.5.1.0/24", "flannel0", 2)


class Manager:
    """A service manager, and a daemon whose state it hears of."""

    def __init__(self, path: Path) -> None:
        self.state = STARTING
        self._looks = asyncio.Semaphore(0)
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    async def hears(self) -> str:
        """The next message."""
        loop = asyncio.get_running_loop()
        message = await asyncio.wait_for(loop.sock_recv(self._socket, 4096), 10)
        return message.decode()

    @property
    def silent(self) -> bool:
        """Is there nothing to hear?"""
        with suppress(BlockingIOError):
            self._socket.recv(1, socket.MSG_PEEK)
            return False
        return True

    def close(self) -> None:
        self._socket.close()

    def _look(self) -> State:
        self._looks.release()
        return self.state

    async def looked_at(self, times: int) -> None:
        """Wait until somebody has asked for the state so often."""
        for _ in range(times):
            await self._looks.acquire()

    @asynccontextmanager
    async def reporter(self, watchdog: float | None = None) -> AsyncIterator[Reporter]:
        it = Reporter(Notifier(str(self.path), watchdog), self._look)
        task = asyncio.create_task(it.report())
        try:
            yield it
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    monkeypatch.setattr(reporter, "LOOK", 0.01)
    it = Manager(tmp_path / "notify")
    yield it
    it.close()


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (STARTING, "not ready: etcd does not answer"),
        (READY, "ready: 10.5.1.0/24 on flannel0, 2 peers"),
        (replace(READY, peers=1), "ready: 10.5.1.0/24 on flannel0, 1 peer"),
        (replace(READY, device=None), "ready: 10.5.1.0/24, 2 peers"),
        (
            replace(READY, lacking="etcd does not answer"),
            "ready: 10.5.1.0/24 on flannel0, 2 peers; etcd does not answer",
        ),
        (
            replace(READY, verdict=NotReady({Cause.CARRIER: "the TUN is lost"})),
            "not ready: the TUN is lost",
        ),
    ],
)
def test_the_line(state: State, line: str) -> None:
    assert state.line == line


async def test_the_status_is_told_when_it_changes(manager: Manager) -> None:
    async with manager.reporter():
        assert await manager.hears() == f"STATUS={STARTING.line}"
        manager.state = READY
        assert await manager.hears() == f"STATUS={READY.line}"
        manager.state = replace(READY, lacking="a\nMAINPID=1\x1b[2J")
        assert await manager.hears() == f"STATUS={READY.line}; a\\nMAINPID=1\\x1b[2J"


async def test_what_has_not_changed_is_not_told(manager: Manager) -> None:
    async with manager.reporter() as it:
        await manager.hears()
        it.ready()
        assert await manager.hears() == "READY=1"
        assert manager.silent


async def test_ready_and_what_is_ready_are_told_together(manager: Manager) -> None:
    async with manager.reporter() as it:
        await manager.hears()
        manager.state = READY
        it.ready()
        assert await manager.hears() == f"READY=1\nSTATUS={READY.line}"


async def test_who_starts_after_us_waits_for_peers(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "PEERS_WAIT", 3600)
    heard = asyncio.Event()
    async with manager.reporter() as it, asyncio.TaskGroup() as tasks:
        await manager.hears()
        tasks.create_task(it.announce(heard))
        await manager.looked_at(10)
        assert manager.silent
        heard.set()
        assert await manager.hears() == "READY=1"


async def test_who_starts_after_us_does_not_wait_for_a_silent_store(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """flanneld does not wait for peers at all."""
    monkeypatch.setattr(reporter, "PEERS_WAIT", 0.01)
    async with manager.reporter() as it:
        await manager.hears()
        await it.announce(asyncio.Event())
        assert await manager.hears() == "READY=1"


async def test_a_reload_says_when_it_began(manager: Manager) -> None:
    async with manager.reporter() as it:
        await manager.hears()
        it.ready()
        await manager.hears()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        it.reload(lambda: setattr(manager, "state", READY))
        begin, when = (await manager.hears()).split("\nMONOTONIC_USEC=")
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert begin == "RELOADING=1"
        assert before <= int(when) <= after
        assert await manager.hears() == f"READY=1\nSTATUS={READY.line}"


async def test_a_reload_does_not_make_ready(manager: Manager) -> None:
    async with manager.reporter() as it:
        await manager.hears()
        it.reload(lambda: setattr(manager, "state", READY))
        assert await manager.hears() == f"STATUS={READY.line}"


async def test_the_watchdog_hears_of_pumps_that_run(manager: Manager) -> None:
    async with manager.reporter(watchdog=0.02):
        heard = [await manager.hears() for _ in range(4)]
        assert heard.count("WATCHDOG=1") == 3


async def test_the_watchdog_does_not_hear_of_those_that_do_not(
    manager: Manager,
) -> None:
    manager.state = replace(STARTING, pumping=False)
    async with manager.reporter(watchdog=0.02):
        await manager.hears()
        async with asyncio.timeout(10):
            await manager.looked_at(10)
        assert manager.silent
        manager.state = STARTING
        assert await manager.hears() == "WATCHDOG=1"


async def test_the_end_is_told(manager: Manager) -> None:
    async with manager.reporter() as it:
        await manager.hears()
        it.stopping()
        assert await manager.hears() == "STOPPING=1\nSTATUS=stopping"


async def test_without_a_manager_there_is_nothing_to_do() -> None:
    it = Reporter(Notifier(), lambda: READY)
    await asyncio.wait_for(it.report(), 5)
    it.ready()
    it.stopping()
