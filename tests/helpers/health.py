"""Asking a daemon on a rig for a page of its health server."""

from __future__ import annotations

import socket
from http.client import HTTPConnection
from typing import NamedTuple

from flannelette.benchmarks.rig import Rig
from tests.helpers.lab import DEADLINE

PORT = 9471
FLAG = f"--healthz-port={PORT}"


class Answer(NamedTuple):
    status: int
    text: str
    kind: str | None
    """The body's media type."""


def asked(
    rig: Rig, number: int, path: str, method: str = "GET", address: str = "127.0.0.1"
) -> Answer:
    """What a host's daemon answers at one of its addresses. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with rig.inside(rig.host(number)):
        client = socket.socket(family)
    with client:
        client.settimeout(DEADLINE)
        client.connect((address, PORT))
        connection = HTTPConnection(address, PORT)
        connection.sock = client
        connection.request(method, path)
        answer = connection.getresponse()
        kind = answer.headers["Content-Type"]
        return Answer(answer.status, answer.read().decode(), kind)
