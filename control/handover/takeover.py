"""From daemon to daemon over the operator socket: `flannelette run --take-over`.

    new: hand-over              the descriptors come, document included; the old daemon
    old: rx-0 tun-0 document    forwards on for as long as the new one needs to be ready
    old: .
    new: go                     the old one forwards no more
    old: gone                   the new one does, and the old one ends

Whoever breaks off before "go" leaves everything as it was. Each line of names brings
its descriptors along (SCM_RIGHTS).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from flannelette.control.errors import HostError
from flannelette.control.operator import DEADLINE, connect, document, no_answer

log = logging.getLogger(__name__)

COMMAND = "hand-over"
_END, _GO, _GONE = b".", b"go", b"gone"
_AT_ONCE = 200
"""Descriptors with one line; the kernel takes 253 (SCM_MAX_FD)."""
_ROOM = 1 << 16
_CREDENTIALS = struct.Struct("=iII")


# ---- the new daemon ------------------------------------------------------------------


class Predecessor:
    """The daemon that forwards until we are ready to."""

    def __init__(self, path: Path) -> None:
        """Ask the one that listens at path. Blocks. Raises HostError."""
        self._path = path
        self.left: list[tuple[str, int]] = []
        """What it hands over, by name; the caller's."""
        self._received = b""
        with ExitStack() as undo:
            self._connection = undo.enter_context(connect(path, COMMAND))
            try:
                pid, _, _ = _credentials(self._connection)
                self._process = os.pidfd_open(pid)
                undo.callback(os.close, self._process)
                self._receive()
            except OSError as error:
                raise no_answer(path, error) from None
            undo.pop_all()

    def _receive(self) -> None:
        """Raises HostError for an answer that is none, OSError."""
        names: list[str] = []
        fds: list[int] = []
        with ExitStack() as undo:
            undo.callback(_close_all, fds)
            while (line := self._line(fds)) != _END:
                if line.startswith(b"{"):
                    document(self._path, line)  # an error's
                names += line.decode(errors="replace").split()
            if len(names) != len(fds):
                raise HostError(f"what answers at {self._path} hands nothing over")
            undo.pop_all()
        self.left = list(zip(names, fds, strict=True))

    def _line(self, fds: list[int]) -> bytes:
        """The next one, and what came with it. Raises OSError."""
        while b"\n" not in self._received:
            data, some, _, _ = socket.recv_fds(self._connection, _ROOM, _AT_ONCE)
            fds += some
            for fd in some:
                os.set_inheritable(fd, False)  # or programs that we start would have it
            if not data:
                raise ConnectionError(errno.ECONNRESET, "it broke off")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    def go(self) -> None:
        """When this returns, it forwards no more. Raises HostError."""
        try:
            self._connection.sendall(_GO + b"\n")
            if self._line([]) != _GONE:
                raise HostError(f"the daemon at {self._path} does not hand over")
        except OSError as error:
            raise no_answer(self._path, error) from None

    async def end(self) -> None:
        """Wait until its process has ended, which then has left its sockets."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._process, ended.set)
        try:
            async with asyncio.timeout(2 * DEADLINE):
                await ended.wait()
        except TimeoutError:
            raise HostError("the daemon before does not end") from None
        finally:
            loop.remove_reader(self._process)

    def close(self) -> None:
        self._connection.close()
        os.close(self._process)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def find(path: Path) -> Predecessor | None:
    """The daemon at path; None, which is logged, if there is none. Raises HostError if
    it hands nothing over."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        error = probe.connect_ex(os.fspath(path))
    if error in (errno.ENOENT, errno.ECONNREFUSED):
        log.info("there is no daemon to take over from: socket=%s", path)
        return None
    return Predecessor(path)


# ---- the old daemon ------------------------------------------------------------------


async def hand_over(
    connection: socket.socket, offer: Mapping[str, int], end: Callable[[int], None]
) -> None:
    """Offer these descriptors; if it comes to that, call end() with the pid of our
    successor, after which nothing of ours forwards. The connection does not block.

    Raises OSError."""
    pid, uid, _ = _credentials(connection)
    if uid not in (0, os.geteuid()):
        raise PermissionError("another user asks for the descriptors")
    names = list(offer)
    for first in range(0, len(names), _AT_ONCE):
        some = names[first : first + _AT_ONCE]
        line = " ".join(some).encode() + b"\n"
        socket.send_fds(connection, [line], [offer[name] for name in some])
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, _END + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        data = await loop.sock_recv(connection, len(_GO) + 1)
        if not data:
            log.info("nobody takes over: it was broken off")
            return
        answer += data
    if answer.strip() == _GO:
        log.info("another daemon takes over: pid=%d", pid)
        end(pid)
        await loop.sock_sendall(connection, _GONE + b"\n")


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    """The pid, user and group of the other side. Raises OSError."""
    option = (socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(*option))
    return pid, uid, gid
