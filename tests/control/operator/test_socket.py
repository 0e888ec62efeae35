"""The operator socket's file: who may connect, whose it is, and that it goes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flannelette.control.errors import HostError
from flannelette.control.operator import place
from flannelette.control.operator.server import serve
from tests.helpers.operators import COMMANDS, asked, leave_dead, sent, there
from tests.helpers.waiting import eventually


@pytest.fixture
def umask_0() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.usefixtures("umask_0")
async def test_nobody_else_may_connect_at_any_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has its mode when it appears, before anyone could connect."""
    modes: list[int] = []
    listen = socket.socket.listen

    def listened(self: socket.socket, *args: int) -> None:
        if self.family == socket.AF_UNIX:
            modes.append(mode(path))
        listen(self, *args)

    monkeypatch.setattr(socket.socket, "listen", listened)
    async with serve(path, COMMANDS):
        assert modes[0] == 0o600
        assert mode(path) == 0o600
        assert mode(path.parent) == 0o755


async def test_another_daemon_is_refused_and_the_first_goes_on(path: Path) -> None:
    async with serve(path, COMMANDS):
        with pytest.raises(HostError, match="another flannelette is running"):
            async with serve(path, COMMANDS):
                pass
        assert await asked(path) == {"ready": True}


async def test_a_daemon_with_a_full_queue_lives(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as frozen, socket.socket(socket.AF_UNIX) as one:
        frozen.bind(str(path))
        frozen.listen(0)
        one.connect(str(path))
        with pytest.raises(HostError, match="another flannelette is running"):
            async with serve(path, COMMANDS):
                pass


async def test_a_dead_daemons_socket_is_replaced(path: Path) -> None:
    leave_dead(path)
    async with serve(path, COMMANDS):
        assert await asked(path) == {"ready": True}


@pytest.mark.parametrize(
    "put",
    [Path.touch, Path.mkdir, lambda path: path.symlink_to("elsewhere")],
    ids=["file", "directory", "link"],
)
async def test_what_is_no_socket_is_left_alone(
    path: Path, put: Callable[[Path], None]
) -> None:
    path.parent.mkdir()
    put(path)
    with pytest.raises(HostError, match="is in the way"):
        async with serve(path, COMMANDS):
            pass
    assert there(path)


async def test_a_datagram_socket_is_an_oserror_with_a_note(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(OSError, match="wrong type") as caught:
            async with serve(path, COMMANDS):
                pass
    assert caught.value.__notes__ == [f"while opening the operator socket {path}"]


async def test_only_one_of_many_starters_wins(path: Path) -> None:
    """A stale socket is the dangerous case: each starter wants to remove it."""
    leave_dead(path)
    stop = asyncio.Event()
    outcomes: list[str] = []

    async def start() -> None:
        try:
            async with serve(path, COMMANDS):
                outcomes.append("serves")
                await stop.wait()
        except HostError:
            outcomes.append("refused")

    starters = [asyncio.create_task(start()) for _ in range(8)]
    await eventually(lambda: len(outcomes) == 8)
    assert sorted(outcomes) == ["refused"] * 7 + ["serves"]
    assert await asked(path) == {"ready": True}
    stop.set()
    await asyncio.gather(*starters)


async def test_a_start_waits_for_another_start(path: Path) -> None:
    path.parent.mkdir()
    fd = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    tried = asyncio.Event()

    async def start() -> None:
        tried.set()
        async with serve(path, COMMANDS):
            pass

    task = asyncio.create_task(start())
    await tried.wait()
    await asyncio.sleep(0)
    assert not there(path)
    os.close(fd)
    await task


async def test_a_lock_that_stays_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "DEADLINE", 0.0)
    path.parent.mkdir()
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(HostError, match=r"keeps .* locked"):
            async with serve(path, COMMANDS):
                pass
    finally:
        os.close(fd)


async def test_a_successors_socket_is_not_removed(path: Path) -> None:
    async with serve(path, COMMANDS):
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert there(path)


async def test_the_file_is_gone_before_the_socket_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a starting daemon could take it for stale, and we remove its socket."""
    answers: list[int] = []
    unlink = Path.unlink

    def unlinked(self: Path, missing_ok: bool = False) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            answers.append(probe.connect_ex(str(self)))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlinked)
    async with serve(path, COMMANDS):
        pass
    assert answers == [0]


@asynccontextmanager
async def descriptors_kept() -> AsyncIterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    await eventually(lambda: len(os.listdir("/proc/self/fd")) == before)


async def test_no_descriptor_is_left(path: Path) -> None:
    async with serve(path, COMMANDS):
        pass
    async with descriptors_kept(), serve(path, COMMANDS):
        assert await sent(path, b"status\n") == {"ready": True}
        with pytest.raises(HostError):
            async with serve(path, COMMANDS):
                pass


async def test_a_cancelled_start_leaves_nothing(path: Path) -> None:
    path.parent.mkdir()
    lock = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    async with descriptors_kept():
        task = asyncio.create_task(serve(path, COMMANDS).__aenter__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    os.close(lock)
