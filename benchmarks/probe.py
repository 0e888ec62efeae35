"""Small packets into a host's overlay, and what leaves it by the wire for another host.

The sockets are opened inside the hosts' namespaces and used from here. The kernel's
stamp tells when a datagram arrived, so our own wake-up is not part of it.
"""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack
from ipaddress import IPv4Address
from types import TracebackType
from typing import NamedTuple, Self

from flannelette.benchmarks.mmsg import enlarge
from flannelette.benchmarks.rig import Rig

DISCARD = 9
"""The port in the pods; nobody has to listen."""
_ROOM = 2048
_BUFFER = 4 << 20
_IP_PKTINFO = 8
_SO_TIMESTAMPNS = 35


class Arrival(NamedTuple):
    """A datagram that has left the overlay."""

    data: bytes
    to: IPv4Address
    """The address that it was sent to."""
    when: float
    """Unix time, seconds."""


class Probe:
    """Sends at one host of a rig, receives at another."""

    def __init__(self, rig: Rig, source: int, target: int, port: int) -> None:
        """`port` is where nodes listen. Raises OSError."""
        with ExitStack() as undo:
            with rig.inside(rig.host(source)):
                self._sender = undo.enter_context(_udp())
            with rig.inside(rig.host(target)):
                self._receiver = undo.enter_context(_udp())
            self._sender.setblocking(False)
            self._receiver.setblocking(False)
            self._receiver.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            self._receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            enlarge(self._receiver, _BUFFER)
            self._receiver.bind(("", port))
            self._sockets = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sockets.close()

    def send(self, pod: IPv4Address) -> bool:
        """One packet; False if there is no way to that address just now."""
        try:
            self._sender.sendto(b"", (str(pod), DISCARD))
        except OSError:
            return False
        return True

    def arrivals(self) -> list[Arrival]:
        """Those that are there, and have not been told yet."""
        found: list[Arrival] = []
        while True:
            try:
                data, controls, _, _ = self._receiver.recvmsg(_ROOM, 128)
            except BlockingIOError:
                return found
            told = {kind: value for _, kind, value in controls}
            _, _, public = struct.unpack("=i4s4s", told[_IP_PKTINFO])
            whole, part = struct.unpack("@ll", told[_SO_TIMESTAMPNS])
            found.append(Arrival(data, IPv4Address(public), whole + part / 1e9))


def _udp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
