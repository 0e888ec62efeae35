"""Streams: answers that go on until the client has heard enough, or goes away."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flannelette.control.errors import HostError
from flannelette.control.operator import server
from flannelette.control.operator.server import serve
from tests.helpers.operators import COMMANDS, asked, sent
from tests.helpers.waiting import eventually


@dataclass
class Ticker:
    """A stream of ticks of so many bytes; it knows when it has ended."""

    size: int = 1
    begun: int = 0
    ended: int = 0

    async def ticks(
        self, argument: str, enough: asyncio.Event
    ) -> AsyncGenerator[bytes]:
        self.begun += 1
        try:
            yield json.dumps({"argument": argument}).encode() + b"\n"
            while not enough.is_set():
                yield b"." * self.size
                await asyncio.sleep(0)
            yield b"last"
        finally:
            self.ended += 1


async def test_a_stream_goes_on_until_its_client_has_heard_enough(path: Path) -> None:
    ticker = Ticker()
    async with serve(path, COMMANDS, {"tick": ticker.ticks}):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"tick loud and long\n")
        assert json.loads(await reader.readline()) == {"argument": "loud and long"}
        assert await reader.readexactly(10) == b"." * 10
        assert ticker.ended == 0
        assert await asked(path) == {"ready": True}
        writer.write_eof()
        assert (await reader.read()).endswith(b".last")
        assert (ticker.begun, ticker.ended) == (1, 1)
        writer.close()


async def test_streams_are_among_the_known_commands(path: Path) -> None:
    async with serve(path, COMMANDS, {"tick": Ticker().ticks}):
        for request in (b"ticks\n", b"\n", b"status now\n"):
            error = (await sent(path, request))["error"]
            assert error.endswith("known: status, tick")


async def test_a_client_that_goes_away_ends_its_stream(path: Path) -> None:
    ticker = Ticker()
    async with serve(path, COMMANDS, {"tick": ticker.ticks}):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"tick\n")
        await reader.readline()
        writer.close()
        await eventually(lambda: ticker.ended == 1)


async def test_a_client_that_goes_away_while_nothing_is_sent_ends_its_stream(
    path: Path,
) -> None:
    ended = asyncio.Event()

    async def silent(argument: str, enough: asyncio.Event) -> AsyncGenerator[bytes]:
        yield b"{}\n"
        await enough.wait()
        ended.set()

    async with serve(path, COMMANDS, {"silent": silent}):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"silent\n")
        assert await reader.readline() == b"{}\n"
        writer.close()
        await ended.wait()


async def test_a_slow_client_keeps_its_stream(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For far longer than the deadline of an exchange."""
    monkeypatch.setattr(server, "DEADLINE", 0.05)
    ticker = Ticker(size=1_000_000)
    async with serve(path, COMMANDS, {"tick": ticker.ticks}):
        reader, writer = await asyncio.open_unix_connection(path, limit=1000)
        writer.write(b"tick\n")
        await eventually(lambda: ticker.begun == 1)
        await asyncio.sleep(0.3)
        assert (ticker.begun, ticker.ended) == (1, 0)
        assert len(await reader.readexactly(5_000_000)) == 5_000_000
        writer.close()


async def test_a_client_that_wants_no_more_and_reads_nothing_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "DEADLINE", 0.05)
    ticker = Ticker(size=1_000_000)
    async with serve(path, COMMANDS, {"tick": ticker.ticks}):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"tick\n")
            client.shutdown(socket.SHUT_WR)
            await eventually(lambda: ticker.ended == 1)


async def test_the_end_of_serving_ends_streams(path: Path) -> None:
    ticker = Ticker()
    async with serve(path, COMMANDS, {"tick": ticker.ticks}):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"tick\n")
        await reader.readline()
    assert ticker.ended == 1
    assert set(await reader.read()) == set(b".")
    writer.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (HostError("no, not now"), "no, not now"),
        (OSError(errno.EBUSY, "busy"), "it failed: OSError(16, 'busy')"),
        (RuntimeError("oh no"), "it failed: RuntimeError('oh no')"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
async def test_a_failing_stream_fails_alone(
    path: Path,
    error: Exception,
    said: str,
    late: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failing(argument: str, enough: asyncio.Event) -> AsyncGenerator[bytes]:
        if late:
            yield b'{"begun": true}\n'
        raise error

    async with serve(path, COMMANDS, {"fail": failing}):
        answer = await sent(path, b"fail\n")
        assert answer == ({"begun": True} if late else {"error": said})
        assert await asked(path) == {"ready": True}
    logged = [record.exc_info is not None for record in caplog.records]
    assert logged == ([] if isinstance(error, HostError) else [True])
