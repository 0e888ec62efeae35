"""The outside sockets: UDP on the underlay."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from flannelette.encap.udp import (
    MOST as UDP_MOST,
    OVERHEAD as UDP_OVERHEAD,
    PORT as UDP_PORT,
)
from flannelette.encap.vxlan import (
    HEADER as VXLAN_HEADER,
    OVERHEAD as VXLAN_OVERHEAD,
    OVERHEAD6 as VXLAN_OVERHEAD6,
    PORT as VXLAN_PORT,
)

__all__ = [
    "BUFFER_BYTES",
    "FLOWS",
    "UDP_MOST",
    "UDP_OVERHEAD",
    "UDP_PORT",
    "VXLAN_HEADER",
    "VXLAN_OVERHEAD",
    "VXLAN_OVERHEAD6",
    "VXLAN_PORT",
    "SocketFill",
    "Underlay",
    "open_underlay",
]

BUFFER_BYTES = 4 << 20
"""Asked of the kernel for each direction; what a burst may outrun us by."""


FLOWS = 8
"""Sockets that send what is inside VXLAN, of one IP version: as many source ports are
seen by switches and NICs that spread flows (RFC 7348 section 5). More would only make
the runs shorter that one system call sends."""


class SocketFill(NamedTuple):
    """What waits in a socket that receives, and what found no room there."""

    queue: int
    version: int
    """Of IP."""
    rx_bytes: int
    """Of kernel memory that datagrams take: more than they are long."""
    rx_room: int
    """Of the same memory; beyond it, the kernel drops what comes."""
    rx_drops: int
    """Datagrams, or bursts that the kernel had joined, since the socket was made."""


@dataclass(frozen=True, slots=True)
class Underlay:
    """Sockets that receive, one for each queue, and that send, for all of them."""

    rx: tuple[socket.socket, ...]
    """Of IPv4. They also send, unless there are others for it."""
    rx6: tuple[socket.socket, ...] = ()
    """Of IPv6; none: there are only peers with IPv4."""
    flows: tuple[socket.socket, ...] = ()
    """That send over IPv4; which, the inner flow tells."""
    flows6: tuple[socket.socket, ...] = ()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return (*self.rx, *self.rx6, *self.flows, *self.flows6)

    def fill(self) -> list[SocketFill]:
        """Of the sockets that receive; empty where the kernel does not tell: it does
        since Linux 4.12. Raises OSError."""
        if not _tells_memory(self.rx[0]):
            return []
        return [
            SocketFill(queue, version, *_receive_memory(sock))
            for version, sockets in ((4, self.rx), (6, self.rx6))
            for queue, sock in enumerate(sockets)
        ]

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


def open_underlay(
    address: IPv4Address,
    port: int,
    queues: int = 1,
    address6: IPv6Address | None = None,
    flows: int = 0,
) -> Underlay:
    """Non-blocking sockets bound to address:port, and to [address6]:port, that all
    datagrams arrive at; and leave from (U6), unless there are `flows` others with ports
    of their own. Once all are bound, the kernel gives all that one flow of datagrams
    brings to one of them.

    Raises OSError, EADDRINUSE among them."""
    with ExitStack() as undo:
        rx = _queues(undo, address, port, queues)
        rx6 = _queues(undo, address6, port, queues) if address6 else ()
        senders = [_senders(undo, a, flows) if a else () for a in (address, address6)]
        undo.pop_all()
    return Underlay(rx, rx6, *senders)


Address = IPv4Address | IPv6Address


def _queues(
    undo: ExitStack, address: Address, port: int, queues: int
) -> tuple[socket.socket, ...]:
    sockets = [undo.enter_context(_bound(address, port))]
    if queues > 1:
        # Only now: whoever has the port refuses a socket that would not share it.
        # So a second daemon is refused as ever, though it is of the same user.
        sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port = sockets[0].getsockname()[1]
    while len(sockets) < queues:
        sockets.append(undo.enter_context(_bound(address, port, joining=True)))
    return tuple(sockets)


def _senders(
    undo: ExitStack, address: Address, flows: int
) -> tuple[socket.socket, ...]:
    sockets = [undo.enter_context(_bound(address, 0, deaf=True)) for _ in range(flows)]
    for sock in sockets:
        if address.version == 4:  # as kernels send VXLAN: may be fragmented (W1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
    return tuple(sockets)


def _bound(
    address: Address, port: int, *, joining: bool = False, deaf: bool = False
) -> socket.socket:
    """Whatever is sent to a `deaf` one is discarded: nobody would read it. Raises
    OSError."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        for force, option in (
            (_SO_RCVBUFFORCE, socket.SO_RCVBUF),
            (_SO_SNDBUFFORCE, socket.SO_SNDBUF),
        ):
            _enlarge(sock, force, option)
        if address.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if joining:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if deaf:
            _discard_all(sock)
        sock.bind((str(address), port))
    except OSError as error:
        sock.close()
        where = f"[{address}]" if address.version == 6 else address
        error.add_note(f"binding UDP {where}:{port}")
        raise
    return sock


def _discard_all(sock: socket.socket) -> None:
    nothing = ctypes.create_string_buffer(_RETURN_0)
    program = struct.pack("@HP", 1, ctypes.addressof(nothing))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def accept_bursts(sock: socket.socket) -> bool:
    """Let the kernel join datagrams of one size from one peer (UDP_GRO, Linux 5.0).

    False if it cannot."""
    try:
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
    except OSError:
        return False
    return True


def sends_bursts(sock: socket.socket) -> bool:
    """Does the kernel know UDP_SEGMENT (Linux 4.18)? Asked, not switched on."""
    try:
        sock.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def _tells_memory(sock: socket.socket) -> bool:
    try:
        sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return False
    return True


def _receive_memory(sock: socket.socket) -> tuple[int, int, int]:
    """Bytes in use, bytes of room, drops. Raises OSError."""
    answer = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    memory = _MEMINFO.unpack(answer)
    return memory[_RMEM_ALLOC], memory[_RCVBUF], memory[_DROPS]


_SO_MEMINFO = 55
_MEMINFO = struct.Struct("@9I")
_RMEM_ALLOC, _RCVBUF, _DROPS = 0, 1, 8
"""Of linux/sock_diag.h: SK_MEMINFO_VARS begins with these nine."""
_UDP_SEGMENT = 103
_UDP_GRO = 104
_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT = 10, 0
_SO_ATTACH_FILTER = 26
_RETURN_0 = struct.pack("@HBBI", 0x06, 0, 0, 0)
"""A filter (linux/filter.h) that keeps 0 bytes: BPF_RET | BPF_K."""
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33


def _enlarge(sock: socket.socket, force: int, option: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
    except PermissionError:  # not root of this machine: up to net.core.[rw]mem_max
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
