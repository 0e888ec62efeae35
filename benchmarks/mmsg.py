"""sendmmsg(2) and recvmmsg(2), which Python's socket module does not have."""

from __future__ import annotations

import ctypes
import errno
import os
import socket

MSG_DONTWAIT = 0x40
UDP_SEGMENT, UDP_GRO = 103, 104
SO_RCVBUFFORCE = 33

_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint))


class Messages:
    """Room for `count` messages of `size` bytes, all sent or received by one call."""

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._buffer = ctypes.create_string_buffer(count * size)
        self._parts = (_Iovec * count)()
        self._headers = (_Mmsghdr * count)()
        base = ctypes.addressof(self._buffer)
        for index in range(count):
            part = self._parts[index] = _Iovec(base + index * size, size)
            del part
            header = self._headers[index].header
            header.iov, header.iovlen = ctypes.pointer(self._parts[index]), 1

    def send(self, sock: socket.socket, count: int) -> int:
        """Send the first `count` on a connected socket; how many went. Raises
        OSError."""
        return _check(_libc.sendmmsg(sock.fileno(), self._headers, count, 0))

    def receive(self, sock: socket.socket) -> list[int]:
        """The lengths of those that are there now. Raises OSError."""
        try:
            got = _check(
                _libc.recvmmsg(
                    sock.fileno(), self._headers, self._count, MSG_DONTWAIT, None
                )
            )
        except BlockingIOError:
            return []
        return [header.length for header in self._headers[:got]]


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def enlarge(sock: socket.socket, size: int) -> int:
    """Ask for a receive buffer of so many bytes; what was given."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
