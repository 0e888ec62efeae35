"""UDP of all sizes, from pod to pod, compared."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.helpers.lab import Lab

UDP_SEGMENT = 103
LARGEST = 65507
"""Bytes that one datagram of UDP over IPv4 can hold."""
_SO_RCVBUFFORCE = 33
_PORT = 5001


@contextmanager
def pod_sockets(
    it: Lab, source: int, target: int, version: int = 4
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A UDP socket in the source's pod, connected to the one in the target's."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    receiver = it.socket_in(it.pods[target].ns, family=family)
    sender = it.socket_in(it.pods[source].ns, family=family)
    with receiver, sender:
        receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 20)
        receiver.bind(("", _PORT))
        sender.connect((it.address(target, version), _PORT))
        yield sender, receiver


def check_udp(it: Lab, source: int, target: int, *sizes: int, version: int = 4) -> None:
    """A datagram of each size, one after the other."""
    with pod_sockets(it, source, target, version) as (sender, receiver):
        for size in sizes:
            data = random.Random(size).randbytes(size)
            sender.send(data)
            got, (address, *_) = receiver.recvfrom(65536)
            assert (got, address) == (data, it.address(source, version)), size


def check_segmented_udp(
    it: Lab, source: int, target: int, *segments: int, version: int = 4
) -> None:
    """Datagrams that the pod sends by one call, the last shorter."""
    with pod_sockets(it, source, target, version) as (sender, receiver):
        for segment in segments:
            data = random.Random(segment).randbytes(20 * segment + 7)
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
            sender.send(data)
            for start in range(0, len(data), segment):
                assert receiver.recv(65536) == data[start : start + segment]
