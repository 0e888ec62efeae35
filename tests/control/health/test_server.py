"""The health server over real sockets, and clients of every kind."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from flannelette.benchmarks.rig import Rig
from flannelette.control.errors import HostError
from flannelette.control.health import server
from flannelette.control.health.http import HEAD_MAX, Request, Response
from flannelette.control.health.server import CLIENTS, serve
from tests.helpers.ns import needs_namespaces
from tests.helpers.storerig import eventually

HERE = IPv4Address("127.0.0.1")
GET = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
PAGE = Response(b"a page")


def handler(request: Request) -> Response:
    if request.path == "/broken":
        raise ZeroDivisionError
    return PAGE if request.path == "/page" else Response(b"no", HTTPStatus.NOT_FOUND)


@asynccontextmanager
async def connected(
    port: int, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def answered(port: int, data: bytes, host: str = "127.0.0.1") -> bytes:
    """All that comes back for these bytes, up to the end of the stream."""
    async with connected(port, host) as (reader, writer):
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 10)


def status(answer: bytes) -> int:
    return int(answer.split()[1])


async def test_pages() -> None:
    async with serve(HERE, 0, handler) as port:
        whole = await answered(port, GET)
        assert status(whole) == 200
        assert whole.endswith(b"\r\n\r\na page")
        head = await answered(port, GET.replace(b"GET", b"HEAD"))
        assert head.endswith(b"\r\n\r\n")
        assert b"Content-Length: 6\r\n" in head
        assert status(await answered(port, GET.replace(b"page", b"none"))) == 404
        assert status(await answered(port, b"nonsense\r\n\r\n")) == 400
        assert status(await answered(port, GET.replace(b"GET", b"PUT"))) == 405


async def test_a_request_may_come_in_pieces() -> None:
    async with serve(HERE, 0, handler) as port, connected(port) as (reader, writer):
        for byte in GET:
            writer.write(bytes([byte]))
            await writer.drain()
        assert status(await reader.read()) == 200


async def test_what_is_sent_behind_a_request_does_not_cost_its_answer() -> None:
    """Closed with bytes unread, a connection is reset."""
    async with serve(HERE, 0, handler) as port:
        assert status(await answered(port, GET + bytes(500_000))) == 200
        assert status(await answered(port, b"x" * (HEAD_MAX + 500_000))) == 431


async def test_a_faulty_page_costs_one_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve(HERE, 0, handler) as port:
        assert status(await answered(port, GET.replace(b"page", b"broken"))) == 500
        assert status(await answered(port, GET)) == 200
    assert [record.message for record in caplog.records] == [
        "a page of the health server failed"
    ]


async def test_who_says_nothing_in_time_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "DEADLINE", 0.05)
    async with serve(HERE, 0, handler) as port:
        assert await answered(port, b"") == b""
        assert await answered(port, GET[:-1]) == b""


async def test_who_does_not_read_in_time_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "DEADLINE", 0.05)
    asked: list[Request] = []

    def large(request: Request) -> Response:
        asked.append(request)
        return Response(bytes(50_000_000))

    async with serve(HERE, 0, large) as port:
        alone = len(asyncio.all_tasks())
        async with connected(port) as (reader, writer):
            writer.write(GET)
            await eventually(lambda: asked != [] and len(asyncio.all_tasks()) == alone)
            assert len(await reader.read()) < 50_000_000


async def test_who_is_slow_keeps_nobody_out() -> None:
    """Beyond so many the oldest goes, and no other."""
    async with serve(HERE, 0, handler) as port:
        slow = [
            await asyncio.open_connection("127.0.0.1", port) for _ in range(CLIENTS)
        ]
        try:
            for _ in range(2):
                assert status(await answered(port, GET)) == 200
            oldest, _, (reader, writer) = slow[:3]
            assert await asyncio.wait_for(oldest[0].read(), 10) == b""
            writer.write(GET)
            assert status(await asyncio.wait_for(reader.read(), 10)) == 200
        finally:
            for _, each in slow:
                each.close()


async def test_the_end_waits_for_nobody() -> None:
    async with serve(HERE, 0, handler) as port:
        silent = await asyncio.open_connection("127.0.0.1", port)
        await answered(port, GET)
    assert await asyncio.wait_for(silent[0].read(), 10) == b""
    silent[1].close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_no_address_in_particular_is_all_of_both_versions() -> None:
    """Of 0.0.0.0 too, flanneld's default, as by flanneld."""
    for address in (IPv4Address("0.0.0.0"), IPv6Address("::")):
        async with serve(address, 0, handler) as port:
            for host in ("127.0.0.1", "::1"):
                assert status(await answered(port, GET, host)) == 200


async def test_one_address_is_that_one() -> None:
    async with serve(IPv6Address("::1"), 0, handler) as port:
        assert status(await answered(port, GET, "::1")) == 200
        with pytest.raises(ConnectionRefusedError):
            await answered(port, GET)


@needs_namespaces
def test_an_address_of_one_link() -> None:
    """Go's Listen knows them, so flanneld does."""
    with Rig(2) as rig:
        rig.ip(rig.host(1), "address add fe80::77/64 dev lo nodad")
        with rig.inside(rig.host(1)):
            link = socket.if_nametoindex("lo")
            with server._listening(IPv6Address("fe80::77%lo"), 0) as listener:
                host, _, _, scope = listener.getsockname()
            with pytest.raises(OSError, match="Name or service") as caught:  # noqa: SIM117
                with server._listening(IPv6Address("fe80::77%none"), 0):
                    pass
    assert (host.partition("%")[0], scope) == ("fe80::77", link)
    assert caught.value.__notes__ == [
        "listening for health checks at fe80::77%none port 0"
    ]


async def test_a_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first IPv4 address goes before any of IPv6, as with Go."""
    assert await server.resolve(IPv6Address("fe80::1%lo")) == IPv6Address("fe80::1%lo")
    assert (await server.resolve("localhost")).is_loopback
    six, four, other = "2001:db8::1", "192.0.2.7", "192.0.2.6"
    for found, expected in (([six, four, other], four), ([six], six)):

        def look_up(*_: object, found: list[str] = found, **__: object) -> list[Any]:
            families = {True: socket.AF_INET6, False: socket.AF_INET}
            return [(families[":" in it], 1, 6, "", (it, 0)) for it in found]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert str(await server.resolve("health.example")) == expected


async def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop goes on while it is looked up."""
    turned = threading.Event()

    def look_up(*_: object, **__: object) -> list[Any]:
        assert turned.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asyncio.get_running_loop().call_later(0.01, turned.set)
    with pytest.raises(OSError, match="Name or service not known") as caught:
        await server.resolve("health.example")
    assert caught.value.__notes__ == ["looking up --healthz-ip health.example"]


@pytest.mark.parametrize("name", ["a..b", f"{'a' * 64}.example"])
async def test_what_is_no_name(name: str) -> None:
    with pytest.raises(HostError, match=f"--healthz-ip {name} is no host name"):
        await server.resolve(name)


async def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError) as caught:  # noqa: PT011 (the number is what counts)
            async with serve(HERE, port, handler):
                pass
    assert caught.value.errno == errno.EADDRINUSE
    note = f"listening for health checks at 127.0.0.1 port {port}"
    assert caught.value.__notes__ == [note]


async def test_a_port_is_free_at_once_for_the_next_daemon() -> None:
    async with serve(HERE, 0, handler) as port:
        await answered(port, GET)  # leaves a connection in TIME_WAIT
    async with serve(HERE, port, handler):
        assert status(await answered(port, GET)) == 200


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(chunks=st.lists(st.binary(max_size=60), max_size=4), end=st.booleans())
def test_any_bytes_get_an_answer_or_none_and_the_server_goes_on(
    chunks: list[bytes], end: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk() -> None:
        async with serve(HERE, 0, handler) as port:
            async with connected(port) as (reader, writer):
                for chunk in chunks:
                    writer.write(chunk)
                    await writer.drain()
                if end:
                    writer.write_eof()
                    answer = await asyncio.wait_for(reader.read(), 10)
                    assert not answer or answer.startswith(b"HTTP/1.1 ")
            assert status(await answered(port, GET)) == 200

    asyncio.run(talk())
    assert not caplog.records
