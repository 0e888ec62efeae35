"""The operator socket: one daemon, one line, one document."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from flannelette.control import clients, operator
from flannelette.control.errors import HostError
from flannelette.control.operator import REQUEST_MAX, ask, serve
from tests.helpers import uvloops
from tests.helpers.storerig import eventually
from tests.helpers.watched import strange_daemon

COMMANDS = {"status": lambda: {"ready": True}}


async def echoed(argument: str, enough: asyncio.Event) -> AsyncGenerator[bytes]:
    """One line: the argument."""
    yield json.dumps({"argument": argument}).encode() + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "flannelette.sock"


def there(path: Path) -> bool:
    return os.path.lexists(path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def leave_dead(path: Path) -> None:
    """What a daemon leaves that was killed."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()


async def asked(path: Path, command: str = "status") -> dict[str, Any]:
    return await asyncio.to_thread(ask, path, command)


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


@pytest.fixture
def umask_0() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask_0")
async def test_nobody_else_may_connect_at_any_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has its mode when it appears, before anyone could connect."""
    modes: list[int] = []
    listen = socket.socket.listen

    def listened(self: socket.socket, *args: int) -> None:
        if self.family == socket.AF_UNIX:
            modes.append(mode(path))
        listen(self, *args)

    monkeypatch.setattr(socket.socket, "listen", listened)
    async with serve(path, COMMANDS):
        assert modes[0] == 0o600
        assert mode(path) == 0o600
        assert mode(path.parent) == 0o755


async def test_another_daemon_is_refused_and_the_first_goes_on(path: Path) -> None:
    async with serve(path, COMMANDS):
        with pytest.raises(HostError, match="another flannelette is running"):
            async with serve(path, COMMANDS):
                pass
        assert await asked(path) == {"ready": True}


async def test_a_daemon_with_a_full_queue_lives(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as frozen, socket.socket(socket.AF_UNIX) as one:
        frozen.bind(str(path))
        frozen.listen(0)
        one.connect(str(path))
        with pytest.raises(HostError, match="another flannelette is running"):
            async with serve(path, COMMANDS):
                pass


async def test_a_dead_daemons_socket_is_replaced(path: Path) -> None:
    leave_dead(path)
    async with serve(path, COMMANDS):
        assert await asked(path) == {"ready": True}


@pytest.mark.parametrize(
    "put",
    [Path.touch, Path.mkdir, lambda path: path.symlink_to("elsewhere")],
    ids=["file", "directory", "link"],
)
async def test_what_is_no_socket_is_left_alone(
    path: Path, put: Callable[[Path], None]
) -> None:
    path.parent.mkdir()
    put(path)
    with pytest.raises(HostError, match="is in the way"):
        async with serve(path, COMMANDS):
            pass
    assert there(path)


async def test_a_datagram_socket_is_an_oserror_with_a_note(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(OSError, match="wrong type") as caught:
            async with serve(path, COMMANDS):
                pass
    assert caught.value.__notes__ == [f"while opening the operator socket {path}"]


async def test_only_one_of_many_starters_wins(path: Path) -> None:
    """A stale socket is the dangerous case: each starter wants to remove it."""
    leave_dead(path)
    stop = asyncio.Event()
    outcomes: list[str] = []

    async def start() -> None:
        try:
            async with serve(path, COMMANDS):
                outcomes.append("serves")
                await stop.wait()
        except HostError:
            outcomes.append("refused")

    starters = [asyncio.create_task(start()) for _ in range(8)]
    await eventually(lambda: len(outcomes) == 8)
    assert sorted(outcomes) == ["refused"] * 7 + ["serves"]
    assert await asked(path) == {"ready": True}
    stop.set()
    await asyncio.gather(*starters)


async def test_a_start_waits_for_another_start(path: Path) -> None:
    path.parent.mkdir()
    fd = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    tried = asyncio.Event()

    async def start() -> None:
        tried.set()
        async with serve(path, COMMANDS):
            pass

    task = asyncio.create_task(start())
    await tried.wait()
    await asyncio.sleep(0)
    assert not there(path)
    os.close(fd)
    await task


async def test_a_lock_that_stays_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator, "DEADLINE", 0.0)
    path.parent.mkdir()
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(HostError, match=r"keeps .* locked"):
            async with serve(path, COMMANDS):
                pass
    finally:
        os.close(fd)


async def test_a_successors_socket_is_not_removed(path: Path) -> None:
    async with serve(path, COMMANDS):
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert there(path)


async def test_the_file_is_gone_before_the_socket_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a starting daemon could take it for stale, and we remove its socket."""
    answers: list[int] = []
    unlink = Path.unlink

    def unlinked(self: Path, missing_ok: bool = False) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            answers.append(probe.connect_ex(str(self)))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlinked)
    async with serve(path, COMMANDS):
        pass
    assert answers == [0]


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
    monkeypatch.setattr(operator, "DEADLINE", 0.05)
    async with serve(path, COMMANDS):
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()


async def test_a_client_that_does_not_read_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator, "DEADLINE", 0.05)
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


@asynccontextmanager
async def descriptors_kept() -> AsyncIterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_no_descriptor_is_left(path: Path) -> None:
    async with serve(path, COMMANDS):
        pass
    async with descriptors_kept(), serve(path, COMMANDS):
        assert await sent(path, b"status\n") == {"ready": True}
        with pytest.raises(HostError):
            async with serve(path, COMMANDS):
                pass


async def test_a_cancelled_start_leaves_nothing(path: Path) -> None:
    path.parent.mkdir()
    lock = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    async with descriptors_kept():
        task = asyncio.create_task(serve(path, COMMANDS).__aenter__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    os.close(lock)


# ---- streams -------------------------------------------------------------------------


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
    monkeypatch.setattr(operator, "DEADLINE", 0.05)
    ticker = Ticker(size=1_000_000)
    async with serve(path, COMMANDS, {"tick": ticker.ticks}):
        reader, writer = await asyncio.open_unix_connection(path, limit=1000)
        writer.write(b"tick\n")
        await asyncio.sleep(0.3)
        assert (ticker.begun, ticker.ended) == (1, 0)
        assert len(await reader.readexactly(5_000_000)) == 5_000_000
        writer.close()


async def test_a_client_that_wants_no_more_and_reads_nothing_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator, "DEADLINE", 0.05)
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


# ---- the asking side, against daemons that are not ours ------------------------------


def test_no_daemon_is_one_line(path: Path) -> None:
    with pytest.raises(HostError) as caught:
        ask(path, "status")
    assert str(caught.value) == (
        f"no daemon answers at {path}: No such file or directory"
    )
    leave_dead(path)
    with pytest.raises(HostError, match=r"no daemon answers at .*: Connection refused"):
        ask(path, "status")
    with pytest.raises(HostError, match=r"no daemon answers at .*: .*too long"):
        ask(Path("/" + "x" * 200), "status")


def test_a_frozen_daemon_is_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator, "DEADLINE", 0.05)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(path))
        frozen.listen()
        with pytest.raises(HostError, match=r"no daemon answers at .*: timed out"):
            ask(path, "status")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "is no flannelette"),
        (b"HTTP/1.1 400 Bad Request\r\n", "is no flannelette"),
        (b"\xff\xff", "is no flannelette"),
        (b"[1]", r"answers: \[1\]"),
        (b'{"error": "no"}', "answers: no"),
    ],
)
def test_a_strange_answer_is_one_line(path: Path, answer: bytes, message: str) -> None:
    path.parent.mkdir()
    with strange_daemon(path, answer), pytest.raises(HostError, match=message):
        ask(path, "status")
