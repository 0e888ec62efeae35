"""One daemon, one line, one document; and clients that behave otherwise."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from flannelette.control import clients
from flannelette.control.errors import HostError
from flannelette.control.operator import REQUEST_MAX, server
from flannelette.control.operator.server import serve
from tests.helpers import uvloops
from tests.helpers.operators import COMMANDS, asked, sent, there
from tests.helpers.waiting import eventually


async def test_a_command_is_answered(path: Path) -> None:
    async with serve(path, COMMANDS):
        assert await asked(path) == {"ready": True}
        assert await asked(path) == {"ready": True}
    assert not there(path)


@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloops.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_both_loops_serve(
    path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def body() -> None:
        async with serve(path, COMMANDS):
            idle, writer = await asyncio.open_unix_connection(path)
            assert await asked(path) == {"ready": True}
        assert await idle.read() == b""
        writer.close()
        assert not there(path)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(body())


@pytest.mark.parametrize("fault", [HostError("no"), ValueError("no"), OSError("no")])
async def test_a_talk_that_fails_costs_only_itself(
    path: Path, fault: Exception
) -> None:
    async def fail(_: socket.socket) -> None:
        raise fault

    async with serve(path, COMMANDS, talks={"talk": fail}):
        with pytest.raises(HostError):
            await asked(path, "talk")
        assert await asked(path) == {"ready": True}


# ---- requests ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (b"reboot\n", "unknown command 'reboot'; known: status"),
        (b"\n", "unknown command ''; known: status"),
        (b"\xff\x1b\n", "unknown command '\ufffd\\x1b'; known: status"),
        (b"x" * (REQUEST_MAX + 1), f"one line of at most {REQUEST_MAX} bytes"),
        (b"x" * REQUEST_MAX + b"\n", f"one line of at most {REQUEST_MAX} bytes"),
    ],
)
async def test_a_wrong_request_is_answered(
    path: Path, request_: bytes, error: str
) -> None:
    async with serve(path, COMMANDS):
        assert (await sent(path, request_))["error"].startswith(error)


async def test_a_request_may_be_long_and_end_in_spaces(path: Path) -> None:
    async with serve(path, COMMANDS):
        request = b"status".ljust(REQUEST_MAX - 1) + b"\n"
        assert await sent(path, request) == {"ready": True}


async def test_half_a_line_is_no_command(path: Path) -> None:
    async with serve(path, COMMANDS):
        assert "error" in await sent(path, b"status", end=True)


async def echoed(argument: str, enough: asyncio.Event) -> AsyncGenerator[bytes]:
    """One line: the argument."""
    yield json.dumps({"argument": argument}).encode() + b"\n"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=1500) | st.binary(max_size=200).map(b"stream ".__add__))
def test_any_bytes_get_one_document(tmp_path: Path, junk: bytes) -> None:
    async def body() -> Any:
        async with serve(tmp_path / "s", COMMANDS, {"stream": echoed}):
            return await sent(tmp_path / "s", junk, end=True)

    assert isinstance(asyncio.run(body()), dict)


async def test_a_failing_command_fails_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> object:
        raise RuntimeError("oh no")

    commands = {"status": fail, "unfit": lambda: {1, 2}, "fine": lambda: {}}
    async with serve(path, commands):
        with pytest.raises(HostError, match="status failed: RuntimeError"):
            await asked(path)
        with pytest.raises(HostError, match="not JSON serializable"):
            await asked(path, "unfit")
        assert await asked(path, "fine") == {}
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


# ---- clients -------------------------------------------------------------------------


async def test_many_clients_at_once(path: Path) -> None:
    async with serve(path, COMMANDS):
        idle = [await asyncio.open_unix_connection(path) for _ in range(20)]
        answers = await asyncio.gather(*(sent(path, b"status\n") for _ in range(20)))
        assert answers == [{"ready": True}] * 20
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()


async def test_a_client_that_says_nothing_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "DEADLINE", 0.05)
    async with serve(path, COMMANDS):
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()


async def test_a_client_that_does_not_read_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "DEADLINE", 0.05)
    big = "x" * 10_000_000
    asked = asyncio.Event()

    def status() -> str:
        asked.set()
        return big

    async with serve(path, {"status": status}):
        tasks = asyncio.all_tasks()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"status\n")
            await asked.wait()
            await eventually(lambda: asyncio.all_tasks() == tasks)
            client.settimeout(5)
            with client.makefile("rb") as stream:
                # In a thread: the connection is closed one turn of the loop later.
                assert len(await asyncio.to_thread(stream.read)) < len(big)


async def test_clients_do_not_hold_up_the_end(path: Path) -> None:
    before = asyncio.all_tasks()
    async with serve(path, COMMANDS):
        tasks = asyncio.all_tasks()
        reader, writer = await asyncio.open_unix_connection(path)
        await eventually(lambda: asyncio.all_tasks() != tasks)
    assert await reader.read() == b""
    writer.close()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("steps", range(6))
async def test_a_client_that_comes_at_the_end_is_not_kept(
    path: Path, steps: int
) -> None:
    """Whether it was accepted or not, and served already or not."""
    async with serve(path, COMMANDS):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        for _ in range(steps):
            await asyncio.sleep(0)
    client.settimeout(5)
    with client, suppress(ConnectionResetError):
        assert client.recv(1) == b""


async def test_no_descriptors_for_clients_is_no_end(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clients, "_ACCEPT_RETRY", 0.001)
    refusals = iter(range(3))
    accept = socket.socket.accept

    def accepted(self: socket.socket) -> tuple[socket.socket, Any]:
        if next(refusals, None) is not None:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(self)

    async with serve(path, COMMANDS):
        monkeypatch.setattr(socket.socket, "accept", accepted)
        assert await asked(path) == {"ready": True}
    assert len(caplog.messages) == 1
    assert "Too many open files" in caplog.messages[0]
