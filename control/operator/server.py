"""The daemon's side of the operator socket: what is asked, and what is answered."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import ExitStack, aclosing, asynccontextmanager, nullcontext, suppress
from pathlib import Path

from flannelette.control.clients import attend
from flannelette.control.errors import HostError, one_line
from flannelette.control.operator import DEADLINE, REQUEST_MAX
from flannelette.control.operator.place import listening, starting_alone

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
                listener = stack.enter_context(listening(path))
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
