"""Both sides of a hand-over, each with one that the test plays."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from flannelette.control.errors import HostError
from flannelette.control.handover import takeover
from flannelette.control.handover.takeover import Predecessor, find, hand_over
from tests.helpers.ns import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def listener(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as it:
        it.settimeout(5)
        it.bind(os.fspath(path))
        it.listen()
        yield it


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def answer(listener: socket.socket, line: bytes, fds: list[int]) -> None:
    """As an old daemon does, which then breaks off."""
    connection, _ = listener.accept()
    with connection:
        assert connection.recv(100) == b"hand-over\n"
        socket.send_fds(connection, [line], fds)


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_no_program_inherits_what_is_handed_over(
    path: Path, listener: socket.socket, pipe: tuple[int, int]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(answer, listener, b"tun-0 rx-0\n.\n", list(pipe))
        predecessor = Predecessor(path)
        answered.result()
    names = [name for name, _ in predecessor.left]
    fds = [fd for _, fd in predecessor.left]
    assert names == ["tun-0", "rx-0"]
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(fd).st_ino for fd in pipe]
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in fds:
        os.close(fd)
    predecessor.close()


@pytest.mark.parametrize(
    "line", [b"tun-0\n.\n", b"tun-0 rx-0", b'{"error": "no"}\n', b"\xff\n.\n"]
)
def test_an_answer_that_is_none(
    path: Path, listener: socket.socket, pipe: tuple[int, int], line: bytes
) -> None:
    """Of what came with it nothing stays open."""
    with ThreadPoolExecutor(1) as pool:
        before = open_fds()
        answered = pool.submit(answer, listener, line, list(pipe))
        with pytest.raises(HostError):
            Predecessor(path)
        answered.result()
    assert open_fds() == before


@pytest.fixture
def waiting(
    path: Path, listener: socket.socket
) -> Iterator[tuple[Predecessor, socket.socket]]:
    """A new daemon to which nothing was left, and the connection of the old one."""

    def accept() -> socket.socket:
        connection, _ = listener.accept()
        assert connection.recv(100) == b"hand-over\n"
        connection.sendall(b".\n")
        return connection

    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(accept)
        predecessor = Predecessor(path)
    with closing(predecessor), accepted.result() as connection:
        yield predecessor, connection


async def test_it_forwards_no_more(
    waiting: tuple[Predecessor, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And if it does not end then, this is said once."""
    predecessor, connection = waiting
    monkeypatch.setattr(takeover, "PATIENCE", 0.0)
    connection.sendall(b"gone\n")
    assert await predecessor.go()
    assert connection.recv(100) == b"go\n"
    await asyncio.to_thread(until, lambda: caplog.messages)
    assert caplog.messages == [f"the daemon before does not end: pid={os.getpid()}"]


@pytest.mark.parametrize("last", [b"", b"go"])
async def test_it_ends_unasked(
    waiting: tuple[Predecessor, socket.socket], last: bytes
) -> None:
    predecessor, connection = waiting
    connection.sendall(last)
    connection.close()
    assert not await predecessor.go()


async def test_it_refuses_twice(waiting: tuple[Predecessor, socket.socket]) -> None:
    """It has handed over to another, and then our "go" has come."""
    predecessor, connection = waiting
    connection.sendall(b'{"error": "first"}\n{"error": "second"}\n')
    with pytest.raises(HostError, match="answers: first"):
        await predecessor.go()


@pytest.mark.parametrize("answer", [b'{"error": "no"}\n', b"{\n", b"stay\n", b"\xff\n"])
async def test_it_does_not_let_go(
    waiting: tuple[Predecessor, socket.socket], answer: bytes
) -> None:
    predecessor, connection = waiting
    connection.sendall(answer)
    with pytest.raises(HostError):
        await predecessor.go()


async def test_it_does_not_answer(
    waiting: tuple[Predecessor, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    predecessor, _ = waiting
    monkeypatch.setattr(takeover, "DEADLINE", 0.05)
    with pytest.raises(HostError, match="does not answer; nothing is taken over"):
        await predecessor.go()


async def test_nobody_is_there_any_more(pipe: tuple[int, int]) -> None:
    """Who has said "go", and was not heard until it had left."""
    ours, its = socket.socketpair()
    ended: list[int] = []
    with ours:
        ours.setblocking(False)
        handing_over = asyncio.create_task(
            hand_over(ours, {"tun-0": pipe[0]}, ended.append)
        )
        its.setblocking(False)
        loop = asyncio.get_running_loop()
        while not (await loop.sock_recv(its, 100)).endswith(b".\n"):
            pass
        its.sendall(b"go\n")
        its.close()
        await handing_over
    assert ended == []


def test_nobody_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But perhaps soon: where another daemon begins to listen, we wait for it."""
    assert find(path) is None
    assert find(path / "nowhere" / "s") is None
    monkeypatch.setattr(takeover, "PATIENCE", 0.0)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        with pytest.raises(HostError, match=f"keeps {path.parent} locked"):
            find(path)
    finally:
        os.close(directory)
    assert find(path) is None


def test_a_daemon_that_accepts_nobody(path: Path) -> None:
    """It is not taken for none, nor waited for."""
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as one,
    ):
        listener.bind(os.fspath(path))
        listener.listen(0)
        one.connect(os.fspath(path))
        with pytest.raises(HostError, match="no daemon answers"):
            find(path)
