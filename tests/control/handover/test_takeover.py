"""Both sides of a hand-over, each with one that the test plays."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flannelette.control.errors import HostError
from flannelette.control.handover.takeover import Predecessor


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
