"""The operator socket: how `flannelette status` asks a running daemon.

A client connects to a Unix stream socket, sends one line, which is a command, and gets
one JSON document until the end of the stream; {"error": ...} when it went wrong. Only
the daemon's own user may connect.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import logging
import os
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from flannelette.control.errors import HostError
from flannelette.control.subnetfile import make_directory

log = logging.getLogger(__name__)

Commands = Mapping[str, Callable[[], object]]

REQUEST_MAX = 1024
"""Bytes of a request, its newline included."""
DEADLINE = 5.0
"""Seconds for one exchange, on either side."""
_LOCK_RETRY = 0.05


@asynccontextmanager
async def serve(path: Path, commands: Commands) -> AsyncIterator[None]:
    """Answer commands at path until the context ends; then the socket is gone.

    A command's result must be fit for JSON. Raises HostError when another daemon
    answers at path or something else is there, OSError when it cannot listen."""
    clients: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.create_task(_answer(reader, writer, commands))
        clients.add(client)
        client.add_done_callback(clients.discard)

    with ExitStack() as stack:
        try:
            make_directory(path.parent)
            async with _starting_alone(path.parent):
                listener = stack.enter_context(_listening(path))
        except OSError as error:
            error.add_note(f"while opening the operator socket {path}")
            raise
        # The server closes its copy; ours listens until the file is gone, so that
        # nobody takes the file for stale meanwhile.
        server = await asyncio.start_unix_server(
            accept, sock=listener.dup(), limit=REQUEST_MAX
        )
        try:
            yield
        finally:
            server.close()
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            await server.wait_closed()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, commands: Commands
) -> None:
    """One exchange. A client that is too slow, or gone, is left behind."""
    try:
        async with asyncio.timeout(DEADLINE):
            request = await _request(reader)
            writer.write(_answer_to(request, commands))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
    except (TimeoutError, OSError):
        log.debug("an operator's client did not stay for the answer")
    finally:
        writer.transport.abort()


async def _request(reader: asyncio.StreamReader) -> str | None:
    """The line that a client sends; None when there is no such line."""
    try:
        line = await reader.readuntil(b"\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    return line.strip().decode(errors="replace")


def _answer_to(request: str | None, commands: Commands) -> bytes:
    """The document for a request, encoded."""
    if request is None:
        return _encode({"error": f"one line of at most {REQUEST_MAX} bytes is wanted"})
    command = commands.get(request)
    if command is None:
        known = ", ".join(sorted(commands))
        return _encode({"error": f"unknown command {request!r:.60}; known: {known}"})
    try:
        return _encode(command())
    except Exception as error:  # a faulty report must not cost the daemon its socket
        log.exception("a command failed: command=%s", request)
        return _encode({"error": f"{request} failed: {error!r}"})


def _encode(document: object) -> bytes:
    return json.dumps(document).encode() + b"\n"


@asynccontextmanager
async def _starting_alone(directory: Path) -> AsyncIterator[None]:
    """Hold a lock against another daemon that starts here at this very moment: both
    would find the socket file stale, and the later would remove the earlier's."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + DEADLINE
        while not _locked(fd):
            if time.monotonic() > deadline:
                raise HostError(f"another process keeps {directory} locked")
            await asyncio.sleep(_LOCK_RETRY)
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
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


def ask(path: Path, command: str) -> dict[str, Any]:
    """Send a command to the daemon at path and return its answer. Blocks.

    Raises HostError when no daemon answers in time, or it answers with an error."""
    try:
        answer = _exchange(path, f"{command}\n".encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise HostError(f"no daemon answers at {path}: {reason}") from None
    try:
        document = json.loads(answer)
    except ValueError:
        raise HostError(f"what answers at {path} is no flannelette") from None
    if not isinstance(document, dict) or "error" in document:
        reason = document["error"] if isinstance(document, dict) else repr(document)
        raise HostError(f"the daemon at {path} answers: {reason}")
    return document


def _exchange(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(DEADLINE)
        connection.connect(os.fspath(path))
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            return stream.read()
