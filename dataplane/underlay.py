"""The outside sockets: UDP on the underlay."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from ipaddress import IPv4Address

from flannelette.encap.udp import (
    MOST as UDP_MOST,
    OVERHEAD as UDP_OVERHEAD,
    PORT as UDP_PORT,
)

__all__ = ["BUFFER_BYTES", "UDP_MOST", "UDP_OVERHEAD", "UDP_PORT", "open_underlay"]

BUFFER_BYTES = 4 << 20
"""Asked of the kernel for each direction; what a burst may outrun us by."""


def open_underlay(
    address: IPv4Address, port: int, queues: int = 1
) -> list[socket.socket]:
    """Non-blocking sockets bound to address:port, the one that all datagrams leave
    from and arrive at (U6). Once all are bound, the kernel gives all that one peer
    sends to one of them.

    Raises OSError, EADDRINUSE among them."""
    with ExitStack() as undo:
        first = undo.enter_context(_bound(address, port, joining=False))
        sockets = [first]
        if queues > 1:
            # Only now: whoever has the port refuses a socket that would not share it.
            # So a second daemon is refused as ever, though it is of the same user.
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            port = first.getsockname()[1]
        while len(sockets) < queues:
            joined = _bound(address, port, joining=True)
            sockets.append(undo.enter_context(joined))
        undo.pop_all()
    return sockets


def _bound(address: IPv4Address, port: int, joining: bool) -> socket.socket:
    """Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        for force, option in (
            (_SO_RCVBUFFORCE, socket.SO_RCVBUF),
            (_SO_SNDBUFFORCE, socket.SO_SNDBUF),
        ):
            _enlarge(sock, force, option)
        if joining:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((str(address), port))
    except OSError as error:
        sock.close()
        error.add_note(f"binding UDP {address}:{port}")
        raise
    return sock


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


_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33


def _enlarge(sock: socket.socket, force: int, option: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
    except PermissionError:  # not root of this machine: up to net.core.[rw]mem_max
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
