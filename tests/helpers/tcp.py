"""Bytes over one TCP connection, from pod to pod."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator

from tests.helpers.lab import Lab


def send_file(
    it: Lab, source: int, target: int, data: bytes, version: int = 4
) -> bytes:
    """Send data between the pods of two hosts; what arrived."""
    return b"".join(_transfer(it, source, target, data, 1, version))


def check_stream(
    it: Lab, source: int, target: int, data: bytes, times: int, version: int = 4
) -> None:
    """Send data many times over, and compare all that arrives, by its digest."""
    sent, got = hashlib.sha256(), hashlib.sha256()
    for chunk in _transfer(it, source, target, data, times, version):
        got.update(chunk)
    for _ in range(times):
        sent.update(data)
    assert got.digest() == sent.digest()


def _transfer(
    it: Lab, source: int, target: int, data: bytes, times: int, version: int
) -> Iterator[bytes]:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    server = it.socket_in(it.pods[target].ns, socket.SOCK_STREAM, family)
    client = it.socket_in(it.pods[source].ns, socket.SOCK_STREAM, family)
    with server, client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("", 5000))
        server.listen()
        client.connect((it.address(target, version), 5000))
        connection, _ = server.accept()

        def send() -> None:
            for _ in range(times):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        with connection:
            connection.settimeout(20)
            yield from iter(lambda: connection.recv(1 << 16), b"")
        sender.join()
