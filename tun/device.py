"""Open a TUN device, and find out what it can do (linux/if_tun.h)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass

CLONE_DEVICE = "/dev/net/tun"
VNET_HEADER = 10
"""Bytes of virtio_net_hdr, without the members that came later."""

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFREQ = struct.Struct("16sH22x")

_CSUM, _TSO4, _TSO6, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x20, 0x40


@dataclass(frozen=True, slots=True)
class TunDevice:
    """A TUN device of ours: it exists as long as the descriptor is open (U3)."""

    fd: int
    """Non-blocking; a read gives one frame, a write takes one."""
    name: str
    vnet: bool = False
    """Does a virtio header precede each packet?"""
    tso: bool = False
    """May a frame hold many segments of a TCP connection?"""
    uso: bool = False
    """May a frame hold many UDP datagrams? Linux 6.2 and later."""

    def close(self) -> None:
        os.close(self.fd)


def open_tun(
    name: str = "flannel%d", *, tso: bool = False, uso: bool = False
) -> TunDevice:
    """Create a device; the kernel replaces %d by the first free number. Offloads that
    are wished for and not granted are left out, as the result tells.

    Raises OSError: ENOENT without the tun driver, EPERM or EACCES without the right
    to use it, EBUSY for a fixed name in use."""
    try:
        fd = os.open(CLONE_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        error.add_note(_advice(error))
        raise
    wanted = _IFF_VNET_HDR if tso or uso else 0
    try:
        request = _IFREQ.pack(name.encode(), _IFF_TUN | _IFF_NO_PI | wanted)
        answer = fcntl.ioctl(fd, _TUNSETIFF, request)
    except OSError as error:
        os.close(fd)
        error.add_note(f"creating the TUN device {name}: CAP_NET_ADMIN is needed")
        raise
    raw, _ = _IFREQ.unpack(answer)
    text = raw.rstrip(b"\0").decode()
    if not wanted:
        return TunDevice(fd, text)
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER))
    tso = tso and _offload(fd, _CSUM | _TSO4 | _TSO6)
    base = _CSUM | _TSO4 | _TSO6 if tso else _CSUM
    uso = uso and _offload(fd, base | _USO4 | _USO6)
    return TunDevice(fd, text, vnet=True, tso=tso, uso=uso)


def _offload(fd: int, bits: int) -> bool:
    """Ask for offloads; a bit that the kernel does not know is refused with EINVAL."""
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, bits)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV):
        return "no TUN driver: modprobe tun, or give the container the device"
    return f"opening {CLONE_DEVICE}: be root, or have access to it and CAP_NET_ADMIN"
