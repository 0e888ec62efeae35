"""Whoever connects to a listening socket of ours: a task for each."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from functools import partial

log = logging.getLogger(__name__)

_ACCEPT_RETRY = 1.0


async def attend(
    listener: socket.socket,
    answer: Callable[[socket.socket], Coroutine[None, None, None]],
    most: int | None = None,
) -> None:
    """Accept clients until cancelled, and then leave those that are there. The listener
    does not block; neither do the connections, which are closed after the answer. It
    raises nothing.

    With more than `most` clients the oldest is left: who is slow cannot keep others
    out. Not asyncio's Server: when it is closed it loses connections that it has
    accepted in the same moment."""
    said = False
    clients: dict[asyncio.Task[None], None] = {}  # in order of arrival

    def ended(connection: socket.socket, client: asyncio.Task[None]) -> None:
        connection.close()
        clients.pop(client, None)

    async with asyncio.TaskGroup() as tasks:
        while True:
            await _readable(listener)
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):  # the client has gone
                continue
            except OSError as error:
                if not said:
                    at = listener.getsockname()
                    log.warning("cannot accept a client: at=%s error=%s", at, error)
                    said = True
                await asyncio.sleep(_ACCEPT_RETRY)
                continue
            connection.setblocking(False)
            if len(clients) == most:
                oldest = next(iter(clients))
                del clients[oldest]
                oldest.cancel()
            client = tasks.create_task(answer(connection))
            clients[client] = None
            # Not in the task: it may be cancelled before its first step.
            client.add_done_callback(partial(ended, connection))


async def _readable(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(listener, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(listener)
