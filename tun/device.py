"""Open a TUN device (linux/if_tun.h)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass

CLONE_DEVICE = "/dev/net/tun"

_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFREQ = struct.Struct("16sH22x")


@dataclass(frozen=True, slots=True)
class TunDevice:
    """A TUN device of ours: it exists as long as the descriptor is open (U3)."""

    fd: int
    """Non-blocking; a read gives one IP packet, a write takes one."""
    name: str

    def close(self) -> None:
        os.close(self.fd)


def open_tun(name: str = "flannel%d") -> TunDevice:
    """Create a device; the kernel replaces %d by the first free number.

    Raises OSError: ENOENT without the tun driver, EPERM or EACCES without the right
    to use it, EBUSY for a fixed name in use."""
    try:
        fd = os.open(CLONE_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        error.add_note(_advice(error))
        raise
    try:
        request = _IFREQ.pack(name.encode(), _IFF_TUN | _IFF_NO_PI)
        answer = fcntl.ioctl(fd, _TUNSETIFF, request)
    except OSError as error:
        os.close(fd)
        error.add_note(f"creating the TUN device {name}: CAP_NET_ADMIN is needed")
        raise
    raw, _ = _IFREQ.unpack(answer)
    return TunDevice(fd, raw.rstrip(b"\0").decode())


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV):
        return "no TUN driver: modprobe tun, or give the container the device"
    return (
        f"opening {CLONE_DEVICE}: run as root, or with access to it and CAP_NET_ADMIN"
    )
