"""Where the operator socket is: one daemon's at a time."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from flannelette.control.errors import HostError
from flannelette.control.operator import DEADLINE
from flannelette.control.subnetfile import make_directory

LOCK_RETRY = 0.05
"""Seconds."""


@asynccontextmanager
async def starting_alone(path: Path) -> AsyncIterator[None]:
    """Keep other daemons from beginning to listen at path: two that find a stale socket
    there would both do so, and the later would remove the earlier's. Raises HostError
    if another keeps us from it, OSError."""
    make_directory(path.parent)
    with _directory(path) as fd:
        deadline = time.monotonic() + DEADLINE
        while not _locked(fd):
            if time.monotonic() > deadline:
                raise HostError(f"another process keeps {path.parent} locked")
            await asyncio.sleep(LOCK_RETRY)
        yield


@contextmanager
def if_alone(path: Path) -> Iterator[bool]:
    """As starting_alone(), but without waiting: is it so? Raises OSError."""
    with _directory(path) as fd:
        yield _locked(fd)


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    """Of that path: what is locked. Raises OSError."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that listens at path, where no other does. Raises HostError, OSError."""
    if _is_stale(path):
        path.unlink()
    kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as listener:
        # Linux gives the file the socket's own mode: it is never open to others.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(os.fspath(path))
        ours = _identity(path)
        try:
            listener.listen()
            yield listener
        finally:
            if _identity(path) == ours:
                path.unlink()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is there: device and inode."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _is_stale(path: Path) -> bool:
    """Is this the socket of a dead daemon? No, if there is nothing.

    Raises HostError when it is a live one's, or no socket, and OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise HostError(f"{path} is in the way: it is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        error = probe.connect_ex(os.fspath(path))
    if error in (0, errno.EAGAIN):  # EAGAIN: it lives, and its queue is full
        raise HostError(f"another flannelette is running: it answers at {path}")
    if error != errno.ECONNREFUSED:
        raise OSError(error, os.strerror(error))
    return True
