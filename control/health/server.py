"""The HTTP server behind --healthz-port: small, and made for hostile clients.

One exchange for a connection, ten seconds for it, and a number of connections; beyond
it the oldest is left, so that nobody who is slow keeps a health check out.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from flannelette.control.clients import attend
from flannelette.control.errors import HostError
from flannelette.control.health.http import (
    Refused,
    Request,
    Response,
    encode,
    head_of,
    parse,
    refusal,
)

log = logging.getLogger(__name__)

DEADLINE = 10.0
"""Seconds for one exchange."""
LINGER = 1.0
"""Seconds for the client to take the answer and close."""
CLIENTS = 64
_CHUNK = 4096

Address = IPv4Address | IPv6Address
Handler = Callable[[Request], Response]


async def resolve(host: Address | str) -> Address:
    """The address itself, or what a host's name stands for: of several the first IPv4
    one, if there is any, as with Go's net.Listen. Raises OSError, HostError."""
    if not isinstance(host, str):
        return host
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        error.add_note(f"looking up --healthz-ip {host}")
        raise
    except UnicodeError:  # a label of it is empty or too long
        raise HostError(f"--healthz-ip {host} is no host name") from None
    (*_, at) = min(found, key=lambda it: it[0] != socket.AF_INET)
    return ip_address(at[0])


@asynccontextmanager
async def serve(address: Address, port: int, handler: Handler) -> AsyncIterator[int]:
    """Answer requests until the context ends, and then at once no more; yields the
    port. Raises OSError."""
    with _listening(address, port) as listener:

        def answer(client: socket.socket) -> Coroutine[None, None, None]:
            return _answer(client, handler)

        server = asyncio.create_task(attend(listener, answer, CLIENTS), name="health")
        try:
            yield listener.getsockname()[1]
        finally:
            server.cancel()
            await asyncio.wait([server])


@contextmanager
def _listening(address: Address, port: int) -> Iterator[socket.socket]:
    """At all addresses of both IP versions if the address is none in particular,
    0.0.0.0 too: flanneld listens so. Raises OSError."""
    every = address.is_unspecified and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if every or address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
        # A restart must not wait for what the last daemon's connections left.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not every)
        try:
            listener.bind(_at("::" if every else str(address), port))
            listener.listen()
        except OSError as error:
            error.add_note(f"listening for health checks at {address} port {port}")
            raise
        yield listener


def _at(address: str, port: int) -> Any:
    """As bind() wants it: a link-local address names its link, bind() its number."""
    wanted = socket.AF_UNSPEC, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST
    ((*_, at),) = socket.getaddrinfo(address, port, *wanted)
    return at


async def _answer(connection: socket.socket, handler: Handler) -> None:
    """One exchange. A client that is too slow, or gone, is left behind."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DEADLINE):
            answer = await _exchange(connection, handler)
            if answer is None:
                return
            await loop.sock_sendall(connection, answer)
        # Closed with bytes unread, a connection is reset, and the answer may be lost.
        connection.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(LINGER):
            while await loop.sock_recv(connection, _CHUNK):
                pass
    except (TimeoutError, OSError):
        log.debug("a client of the health server did not stay for the answer")


async def _exchange(connection: socket.socket, handler: Handler) -> bytes | None:
    """The answer to what the client asks; None if it asks nothing."""
    body = True
    try:
        head = await _head(connection)
        if head is None:
            return None
        request = parse(head)
        body = request.body_wanted
        response = handler(request)
    except Refused as error:
        response = refusal(error.status)
    except Exception:  # a faulty page must not cost the daemon its health checks
        log.exception("a page of the health server failed")
        response = refusal(HTTPStatus.INTERNAL_SERVER_ERROR)
    return encode(response, time.time(), body)


async def _head(connection: socket.socket) -> bytes | None:
    """A request's head; None if the client closes before its end. Raises Refused."""
    loop = asyncio.get_running_loop()
    received = b""
    while True:
        data = await loop.sock_recv(connection, _CHUNK)
        if not data:
            return None
        received = (received + data).lstrip(b"\r\n")
        head = head_of(received)
        if head is not None:
            return head
