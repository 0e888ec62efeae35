"""A TUN device that another process opened."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

QUEUE_LENGTH = 500
"""Frames that a TUN keeps for us, unless told (drivers/net/tun.c: TUN_READQ_SIZE)."""

_TUNGETIFF = 0x800454D2
_SIOCSIFTXQLEN = 0x8943
_IFREQ = struct.Struct("16sH22x")
_IFREQ_INT = struct.Struct("16si20x")


def name_of(fd: int) -> str:
    """The device that the descriptor is a queue of. Raises OSError: EBADFD when the
    device is gone, ENOTTY when it never was one."""
    answer = fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size))
    raw, _ = _IFREQ.unpack(answer)
    os.set_blocking(fd, False)
    return str(raw.rstrip(b"\0").decode(errors="replace"))


def set_queue_length(name: str, frames: int) -> None:
    """How many frames each queue of the device holds until they are read; those that
    are there stay. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any:
        request = _IFREQ_INT.pack(os.fsencode(name), frames)
        fcntl.ioctl(any, _SIOCSIFTXQLEN, request)
