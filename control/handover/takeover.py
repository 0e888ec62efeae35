"""From daemon to daemon over the operator socket: `flannelette run --take-over`.

    new: hand-over              the descriptors come, document included; the old daemon
    old: rx-0 tun-0 document    forwards on for as long as the new one needs to be ready
    old: .
    new: go                     the old one forwards no more
    old: gone                   the new one does, and the old one ends

Each line of names brings its descriptors along (SCM_RIGHTS). What if one of the two
fails?

- Whoever breaks off before "go" is heard leaves everything as it was: the old daemon
  looks once more whether there still is somebody to hand over to.
- An old daemon that ends before it was asked to, or before it says "gone", leaves a new
  one that holds everything, which goes on, whatever it waits for just then. It waits
  for the end of the process: until that, there may be pumps. And it listens at the
  operator socket first: if it is another daemon that does, started by a service manager
  for instance, that one has the descriptors, too, and the new one ends.
- An old daemon that hands over to another one tells whoever else has asked, for they
  would take its end for the former case.
- An old daemon that does not answer "go" may be stopped or in a loop; its pumps have
  threads of their own, and whether they run nobody can tell. Two daemons must not pump,
  and it is not ours to kill it: the new one ends.
- An old daemon that has said "gone" and does not end does not forward. The new one does
  all that a daemon does, and listens as soon as it can.
- Who comes when the old one listens no more and the new one does not yet must not find
  the place free: the new one has it locked (operator/place.py) from before its
  "go" until it listens. Who would take over waits for that, and any other one ends.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from flannelette.control.errors import HostError
from flannelette.control.operator import DEADLINE
from flannelette.control.operator.client import connect, document, no_answer
from flannelette.control.operator.place import LOCK_RETRY, if_alone

log = logging.getLogger(__name__)

COMMAND = "hand-over"
_END, _GO, _GONE = b".", b"go", b"gone"
PATIENCE = 10.0
"""Seconds that a daemon may take to end, once it forwards no more, without a word."""
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
        self._overdue: asyncio.TimerHandle | None = None
        with ExitStack() as undo:
            self._connection = undo.enter_context(connect(path, COMMAND))
            try:
                self._pid, _, _ = _credentials(self._connection)
                self._process = os.pidfd_open(self._pid)
                undo.callback(os.close, self._process)
                self._receive()
            except OSError as error:
                raise no_answer(path, error) from None
            undo.pop_all()
        self._connection.setblocking(False)

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

    async def go(self) -> bool:
        """Let it forward no more. False: it has ended unasked, or is about to. Raises
        HostError if it goes on, as far as we know."""
        try:
            async with asyncio.timeout(DEADLINE):
                answer = await self._answer_to_go()
        except TimeoutError:
            raise HostError(
                f"the daemon at {self._path} (pid {self._pid}) does not answer; "
                "nothing is taken over"
            ) from None
        except OSError:
            return False
        if answer.startswith(b"{"):
            document(self._path, answer)  # an error's
        if answer not in (b"", _GONE + b"\n"):
            raise HostError(f"the daemon at {self._path} does not hand over")
        if answer:
            loop = asyncio.get_running_loop()
            self._overdue = loop.call_later(PATIENCE, self._say_it_stays)
        return bool(answer)

    async def _answer_to_go(self) -> bytes:
        """A line; nothing if the connection ends. Raises OSError."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._connection, _GO + b"\n")
        while b"\n" not in self._received:
            data = await loop.sock_recv(self._connection, _ROOM)
            if not data:
                return b""
            self._received += data
        line, newline, _ = self._received.partition(b"\n")
        return line + newline

    def _say_it_stays(self) -> None:
        log.warning("the daemon before does not end: pid=%d", self._pid)

    async def ended(self) -> None:
        """Wait until its process has ended, which then has left its sockets. Raises
        HostError if another daemon has its place."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._process, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process)
            self._wait_no_more()
        said = self._received
        with suppress(OSError):  # nothing, or our "go" was not read any more
            said += self._connection.recv(_ROOM, socket.MSG_PEEK)
        if said.startswith(b"{"):
            document(self._path, said.partition(b"\n")[0])  # an error's

    def _wait_no_more(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()

    def close(self) -> None:
        self._wait_no_more()
        self._connection.close()
        os.close(self._process)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def find(path: Path) -> Predecessor | None:
    """The daemon at path; None, which is logged, if there is none. Blocks while another
    one that has taken over does not listen yet. Raises HostError if the daemon hands
    nothing over, OSError."""
    deadline = time.monotonic() + PATIENCE
    said = False
    while True:
        try:
            with if_alone(path) as alone:  # and nobody begins while we look
                there = _is_there(path)
        except FileNotFoundError:
            alone, there = True, False
        if there:
            return Predecessor(path)
        if alone:
            log.info("there is no daemon to take over from: socket=%s", path)
            return None
        if time.monotonic() > deadline:
            raise HostError(f"another process keeps {path.parent} locked")
        if not said:
            log.info("waiting for a daemon that starts: socket=%s", path)
            said = True
        time.sleep(LOCK_RETRY)


def _is_there(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # EAGAIN: it is there, and its queue is full
        error = probe.connect_ex(os.fspath(path))
    return error not in (errno.ENOENT, errno.ECONNREFUSED)


# ---- the old daemon ------------------------------------------------------------------


async def hand_over(
    connection: socket.socket, offer: Mapping[str, int], end: Callable[[int], None]
) -> None:
    """Offer these descriptors; if it comes to that, call end() with the pid of our
    successor, after which nothing of ours forwards. The connection does not block.

    Raises OSError, and what end() raises."""
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
        if _broken_off(connection):  # while we were stopped, or busy
            log.info("nobody takes over: it was broken off")
            return
        log.info("another daemon takes over: pid=%d", pid)
        end(pid)
        await loop.sock_sendall(connection, _GONE + b"\n")


def refuse(connection: socket.socket, why: str) -> None:
    """Tell one that waits to take over that nothing comes of it."""
    with suppress(OSError):
        connection.send(json.dumps({"error": why}).encode() + b"\n")


def _broken_off(connection: socket.socket) -> bool:
    """Has the other side closed it? Raises OSError."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    """The pid, user and group of the other side. Raises OSError."""
    option = (socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(*option))
    return pid, uid, gid
