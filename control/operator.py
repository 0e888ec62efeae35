"""The operator socket: how `flannelette status` asks a running daemon.

A client connects to a Unix stream socket, sends one line, which is a command, and gets
one JSON document until the end of the stream; {"error": ...} when it went wrong. Only
the daemon's own user may connect.

A command that streams may have an argument, behind a space, and gives more behind the
line of its document, for as long as the client keeps its own side open: it ends by
shutting that down, reads what is still to come, and closes.
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
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
)
from contextlib import (
    ExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from pathlib import Path
from typing import Any

from flannelette.control.clients import attend
from flannelette.control.errors import HostError, one_line
from flannelette.control.subnetfile import make_directory

log = logging.getLogger(__name__)

Commands = Mapping[str, Callable[[], object]]
Stream = Callable[[str, asyncio.Event], AsyncGenerator[bytes]]
"""From the argument, and an event that is set once the client wants no more: first the
line of the document, then the rest. Raises HostError before the first."""
Streams = Mapping[str, Stream]
Talk = Callable[[socket.socket], Coroutine[None, None, None]]
Talks = Mapping[str, Talk]
"""What is said beyond the request is between these and the client, for as long as they
like. They may raise OSError, and HostError where the client can take an error."""

REQUEST_MAX = 1 << 17
"""Bytes of a request, its newline included: room for the longest filter there is."""
DEADLINE = 5.0
"""Seconds for one exchange, on either side; of a stream, for its first line and for
what is left once the client wants no more. Between them it may be slow."""
LOCK_RETRY = 0.05


@asynccontextmanager
async def serve(
    path: Path,
    commands: Commands,
    streams: Streams | None = None,
    talks: Talks | None = None,
    *,
    alone: bool = False,
) -> AsyncIterator[None]:
    """Answer commands at path until the context ends; then the socket is gone.

    A command's result must be fit for JSON. Raises HostError when another daemon
    answers at path or something else is there, OSError when it cannot listen. `alone`:
    the caller is in starting_alone()."""
    with ExitStack() as stack:
        try:
            async with nullcontext() if alone else starting_alone(path):
                listener = stack.enter_context(_listening(path))
        except OSError as error:
            error.add_note(f"while opening the operator socket {path}")
            raise

        def answer(client: socket.socket) -> Coroutine[None, None, None]:
            return _answer(client, commands, streams or {}, talks or {})

        server = asyncio.create_task(attend(listener, answer), name="operator")
        try:
            yield
        finally:
            server.cancel()
            await asyncio.wait([server])


async def _answer(
    connection: socket.socket, commands: Commands, streams: Streams, talks: Talks
) -> None:
    """One exchange. A client that is too slow, or gone, is left behind."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DEADLINE) as deadline:
            request = await _request(connection)
            name, _, argument = (request or "").partition(" ")
            if name in streams:
                await _stream(connection, streams[name], argument, deadline)
                return
            if name in talks:
                deadline.reschedule(None)
                await _talk(connection, talks[name])
                return
            answer = _answer_to(request, commands, streams)
            await loop.sock_sendall(connection, answer)
    except (TimeoutError, OSError):
        log.debug("an operator's client did not stay for the answer")


async def _talk(connection: socket.socket, talk: Talk) -> None:
    loop = asyncio.get_running_loop()
    try:
        await talk(connection)
        return
    except OSError:
        raise
    except HostError as error:
        why = one_line(error)
    except Exception as error:  # as of a command
        log.exception("a talk failed")
        why = f"it failed: {error!r}"
    await loop.sock_sendall(connection, _encode({"error": why}))


async def _stream(
    connection: socket.socket, stream: Stream, argument: str, deadline: asyncio.Timeout
) -> None:
    """Send what the stream gives until the client has heard enough."""
    loop = asyncio.get_running_loop()
    enough = asyncio.Event()
    async with aclosing(_parts(stream, argument, enough)) as parts:
        await loop.sock_sendall(connection, await anext(parts))
        deadline.reschedule(None)
        end = asyncio.create_task(_at_end(connection, enough, deadline))
        try:
            async for part in parts:
                await loop.sock_sendall(connection, part)
        finally:
            end.cancel()
            await asyncio.wait([end])


async def _parts(
    stream: Stream, argument: str, enough: asyncio.Event
) -> AsyncGenerator[bytes]:
    """What a stream gives; at least one line, which may be an error."""
    begun = False
    try:
        async with aclosing(stream(argument, enough)) as parts:
            async for part in parts:
                begun = True
                yield part
            return
    except HostError as error:
        why = one_line(error)
    except Exception as error:  # as of a command
        log.exception("a stream failed")
        why = f"it failed: {error!r}"
    if not begun:
        yield _encode({"error": why})


async def _at_end(
    connection: socket.socket, enough: asyncio.Event, deadline: asyncio.Timeout
) -> None:
    """Once the client shuts its side down, or is gone, it has heard enough."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while await loop.sock_recv(connection, 4096):
            pass
    enough.set()
    deadline.reschedule(loop.time() + DEADLINE)


async def _request(connection: socket.socket) -> str | None:
    """The line that a client sends; None when there is no such line."""
    loop = asyncio.get_running_loop()
    received = b""
    while b"\n" not in received and len(received) <= REQUEST_MAX:
        data = await loop.sock_recv(connection, 65536)
        if not data:
            break
        received += data
    line, newline, _ = received.partition(b"\n")
    if not newline or len(line) >= REQUEST_MAX:
        return None
    return line.strip().decode(errors="replace")


def _answer_to(request: str | None, commands: Commands, streams: Streams) -> bytes:
    """The document for a request, encoded."""
    if request is None:
        return _encode({"error": f"one line of at most {REQUEST_MAX} bytes is wanted"})
    command = commands.get(request)
    if command is None:
        known = ", ".join(sorted([*commands, *streams]))
        return _encode({"error": f"unknown command {request!r:.60}; known: {known}"})
    try:
        return _encode(command())
    except Exception as error:  # a faulty report must not cost the daemon its socket
        log.exception("a command failed: command=%s", request)
        return _encode({"error": f"{request} failed: {error!r}"})


def _encode(document: object) -> bytes:
    return json.dumps(document).encode() + b"\n"


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
    with connect(path, command) as connection, connection.makefile("rb") as stream:
        try:
            answer = stream.read()
        except OSError as error:
            raise no_answer(path, error) from None
    return document(path, answer)


def connect(path: Path, command: str) -> socket.socket:
    """A connection to the daemon at path, which got this command. Raises HostError.

    Its timeout is DEADLINE."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(DEADLINE)
        connection.connect(os.fspath(path))
        connection.sendall(f"{command}\n".encode())
    except OSError as error:
        connection.close()
        raise no_answer(path, error) from None
    return connection


def no_answer(path: Path, error: OSError) -> HostError:
    """That there is none, and why."""
    return HostError(f"no daemon answers at {path}: {error.strerror or error}")


def document(path: Path, answer: bytes) -> dict[str, Any]:
    """The document in an answer. Raises HostError when it is none, or an error."""
    try:
        found = json.loads(answer)
    except ValueError:
        raise HostError(f"what answers at {path} is no flannelette") from None
    if not isinstance(found, dict) or "error" in found:
        reason = found["error"] if isinstance(found, dict) else repr(found)
        raise HostError(f"the daemon at {path} answers: {reason}")
    return found
