"""A file over TCP, from pod to pod."""

from __future__ import annotations

import socket
import threading

from tests.helpers.lab import Lab


def send_file(it: Lab, source: int, target: int, data: bytes) -> bytes:
    """Send data between the pods of two hosts; what arrived."""
    server = it.socket_in(it.pods[target].ns, socket.SOCK_STREAM)
    client = it.socket_in(it.pods[source].ns, socket.SOCK_STREAM)
    with server, client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("", 5000))
        server.listen()
        client.connect((str(it.pods[target].address), 5000))
        connection, _ = server.accept()

        def send() -> None:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        with connection:
            connection.settimeout(20)
            got = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        sender.join()
    return got
