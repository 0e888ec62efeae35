"""Daemons that only answer, and what their operator socket is asked and says."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flannelette.control.operator.client import ask
from flannelette.control.operator.server import Commands, Streams, serve

COMMANDS = {"status": lambda: {"ready": True}}


def there(path: Path) -> bool:
    return os.path.lexists(path)


def leave_dead(path: Path) -> None:
    """What a daemon leaves that was killed."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()


async def asked(path: Path, command: str = "status") -> dict[str, Any]:
    return await asyncio.to_thread(ask, path, command)


@contextmanager
def served(
    path: Path, commands: Commands, streams: Streams | None = None
) -> Iterator[None]:
    """A daemon that answers these at path, on a loop in a thread of its own."""

    async def body() -> None:
        async with serve(path, commands, streams):
            ready.set()
            await stop.wait()

    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[body()])
    thread.start()
    try:
        assert ready.wait(20)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def sent(path: Path, request: bytes, end: bool = False) -> Any:
    """What the daemon answers to these bytes; end: say that there are no more."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request)
        if end:
            writer.write_eof()
        return json.loads(await reader.read())
    finally:
        writer.close()
        await writer.wait_closed()
