"""Traffic between two pods: echoes for the delay, a file for rate and integrity.

The sockets are opened inside the pods' namespaces and used from here, so nothing needs
to be installed or started in a pod. Both calls have a deadline.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from flannelette.benchmarks.netns import inside
from flannelette.benchmarks.rig import Pod
from flannelette.encap import ip

ECHO_REPLY, ECHO_REQUEST = 0, 8
CHUNK = 1 << 20

_idents = itertools.count(os.getpid())


class TrafficError(Exception):
    """A pod did not reach another, or what arrived is not what was sent."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Round-trip times in seconds."""

    min: float
    mean: float
    max: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """A file that arrived whole."""

    size: int
    seconds: float
    """From before the connection to the last byte's arrival."""
    sha256: str

    @property
    def bits_per_second(self) -> float:
        return self.size * 8 / self.seconds


def ping(source: Pod, target: IPv4Address, count: int, deadline: float) -> Delay:
    """ICMP echoes (RFC 792), one after the other, until count are answered.

    One that is not answered within a second is followed by the next; the first pair
    of answers is not counted, since neighbours are still being resolved. Raises
    TrafficError when time.monotonic() reaches the deadline, OSError."""
    times: list[float] = []
    with inside(source.ns):
        echo = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with echo:
        echo.connect((str(target), 0))
        ident = next(_idents) & 0xFFFF
        for sequence in itertools.count():
            if len(times) == count + 2:
                break
            took = _echo(echo, ident, sequence & 0xFFFF, deadline)
            if took is not None:
                times.append(took)
            elif time.monotonic() >= deadline:
                raise TrafficError(
                    f"no answer to pings from {source.address}: {target}"
                )
    times = times[2:]
    return Delay(min(times), sum(times) / len(times), max(times))


def _echo(
    echo: socket.socket, ident: int, sequence: int, deadline: float
) -> float | None:
    """Seconds until the answer; None when there is none within one second."""
    request = echo_request(ident, sequence)
    started = time.monotonic()
    give_up = min(started + 1, deadline)
    with suppress(TimeoutError):
        echo.settimeout(_until(give_up))
        echo.send(request)
        while time.monotonic() < give_up:
            echo.settimeout(_until(give_up))
            packet = echo.recv(2048)
            if is_answer(packet, ident, sequence):
                return time.monotonic() - started
    return None


def echo_request(ident: int, sequence: int) -> bytes:
    """An ICMP echo request of ping's usual size (RFC 792)."""
    payload = bytes(range(56))
    message = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, ident, sequence) + payload
    return message[:2] + struct.pack("!H", ip.checksum(message)) + message[4:]


def is_answer(packet: bytes, ident: int, sequence: int) -> bool:
    """A raw socket sees every ICMP message, its IPv4 header included."""
    message = packet[(packet[0] & 0xF) * 4 :] if packet else b""
    if len(message) < 8:
        return False
    kind, _, _, *mine = struct.unpack_from("!BBHHH", message)
    return kind == ECHO_REPLY and mine == [ident, sequence]


def send_file(source: Pod, target: Pod, file: Path, deadline: float) -> Transfer:
    """Send a file over TCP from pod to pod and compare its SHA-256.

    Raises TrafficError when it differs or time.monotonic() reaches the deadline,
    OSError."""
    sent = file.read_bytes()
    received = bytearray(len(sent))
    started = time.monotonic()
    try:
        with (
            ThreadPoolExecutor(1) as pool,
            _connected(source, target, deadline) as (sender, receiver),
        ):
            sending = pool.submit(sender.sendall, sent)
            _receive(receiver, received, deadline)
            seconds = time.monotonic() - started
            sending.result()
    except TimeoutError:
        raise TrafficError(
            f"{len(sent)} bytes from {source.address} to {target.address}"
            " did not arrive in time"
        ) from None
    digest = hashlib.sha256(received).hexdigest()
    if digest != hashlib.sha256(sent).hexdigest():
        raise TrafficError(f"what {target.address} received is not what was sent")
    return Transfer(len(received), seconds, digest)


@contextmanager
def _connected(
    source: Pod, target: Pod, deadline: float
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection, the source's first."""
    with inside(target.ns):
        listener = socket.create_server((str(target.address), 0))
    with listener:
        with inside(source.ns):
            sender = socket.socket()
        with sender:
            sender.settimeout(_until(deadline))
            sender.connect(listener.getsockname())
            listener.settimeout(_until(deadline))
            receiver, _ = listener.accept()
            with receiver:
                try:
                    yield sender, receiver
                finally:
                    with suppress(OSError):  # wakes a thread that is in sendall
                        sender.shutdown(socket.SHUT_RDWR)


def _receive(receiver: socket.socket, buffer: bytearray, deadline: float) -> None:
    left = memoryview(buffer)
    while left:
        receiver.settimeout(_until(deadline))
        count = receiver.recv_into(left[:CHUNK])
        if not count:
            raise TrafficError(f"the connection ended {len(left)} bytes too early")
        left = left[count:]


def _until(deadline: float) -> float:
    """A socket's timeout; never 0, which would mean not to block."""
    return max(0.001, deadline - time.monotonic())
