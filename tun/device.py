"""Open a TUN device, and find out what it can do (linux/if_tun.h)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from flannelette.tun.steering import steer

CLONE_DEVICE = "/dev/net/tun"
VNET_HEADER = 10
"""Bytes of virtio_net_hdr, without the members that came later."""
MAX_QUEUES = 256
"""Of one device (drivers/net/tun.c: MAX_TAP_QUEUES)."""
QUEUE_FRAMES = 2000
"""What each queue holds until it is read, as while one daemon follows another; the
kernel's default is 500. It is set before there is traffic: each change of it costs the
packets of a moment (net/sched/sch_generic.c: dev_qdisc_change_tx_queue_len)."""

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_SIOCSIFTXQLEN = 0x8943
_IFF_TUN = 0x0001
_IFF_MULTI_QUEUE = 0x0100
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFF_TUN_EXCL = 0x8000
_IFREQ = struct.Struct("16sH22x")
_IFREQ_INT = struct.Struct("16si20x")

_CSUM, _TSO4, _TSO6, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x20, 0x40


@dataclass(frozen=True, slots=True)
class TunDevice:
    """A TUN device of ours: it exists as long as a queue of it is open (U3)."""

    queues: tuple[int, ...]
    """Non-blocking descriptors; a read gives one frame, a write takes one."""
    name: str
    vnet: bool = False
    """Does a virtio header precede each packet?"""
    tso: bool = False
    """May a frame hold many segments of a TCP connection?"""
    uso: bool = False
    """May a frame hold many UDP datagrams? Linux 6.2 and later."""
    unsteered: OSError | None = None
    """Why a flow may change its queue (steering.py); None: it keeps to one."""

    def close(self) -> None:
        for fd in self.queues:
            os.close(fd)


def open_tun(
    name: str = "flannel%d", *, queues: int = 1, tso: bool = False, uso: bool = False
) -> TunDevice:
    """Create a device; the kernel replaces %d by the first free number. Offloads that
    are wished for and not granted are left out, as the result tells.

    `queues` is 1 to MAX_QUEUES. Raises OSError: ENOENT without the tun driver, EPERM
    or EACCES without the right to use it, EBUSY for a fixed name in use."""
    vnet = tso or uso
    flags = _IFF_TUN | _IFF_NO_PI
    if vnet:
        flags |= _IFF_VNET_HDR
    if queues > 1:
        flags |= _IFF_MULTI_QUEUE
    with ExitStack() as undo:
        # Or a multi-queue device of somebody else would take us in.
        fd, name = _attach(name, flags | _IFF_TUN_EXCL)
        fds = [fd]
        undo.callback(os.close, fd)
        while len(fds) < queues:
            fds.append(_attach(name, flags)[0])
            undo.callback(os.close, fds[-1])
        _lengthen(name)
        unsteered = _steer(fd) if queues > 1 else None
        # Header size and offloads belong to the device, not to a queue.
        if vnet:
            fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER))
            tso = tso and _offload(fd, _CSUM | _TSO4 | _TSO6)
            base = _CSUM | _TSO4 | _TSO6 if tso else _CSUM
            uso = uso and _offload(fd, base | _USO4 | _USO6)
        undo.pop_all()
    return TunDevice(tuple(fds), name, vnet, tso, uso, unsteered)


def _attach(name: str, flags: int) -> tuple[int, str]:
    """A new queue of the device, and the device's name. Raises OSError."""
    try:
        fd = os.open(CLONE_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        error.add_note(_advice(error))
        raise
    try:
        answer = fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), flags))
    except OSError as error:
        os.close(fd)
        error.add_note(f"creating the TUN device {name}: CAP_NET_ADMIN is needed")
        raise
    raw, _ = _IFREQ.unpack(answer)
    return fd, raw.rstrip(b"\0").decode()


def _lengthen(name: str) -> None:
    """Let it hold QUEUE_FRAMES. Raises OSError; but it stays as it is for the root of a
    user namespace, who must not do that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any:
        request = _IFREQ_INT.pack(name.encode(), QUEUE_FRAMES)
        with suppress(PermissionError):
            fcntl.ioctl(any, _SIOCSIFTXQLEN, request)


def _steer(fd: int) -> OSError | None:
    """Keep each flow to one queue; why that cannot be."""
    try:
        steer(fd)
    except OSError as error:
        return error
    return None


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
