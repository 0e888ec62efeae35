"""A TUN device that another process opened."""

from __future__ import annotations

import fcntl
import os
import struct

_TUNGETIFF = 0x800454D2
_IFREQ = struct.Struct("16sH22x")


def name_of(fd: int) -> str:
    """The device that the descriptor is a queue of. Raises OSError: EBADFD when the
    device is gone, ENOTTY when it never was one."""
    answer = fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size))
    raw, _ = _IFREQ.unpack(answer)
    os.set_blocking(fd, False)
    return str(raw.rstrip(b"\0").decode(errors="replace"))
