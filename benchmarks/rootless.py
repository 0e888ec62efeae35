"""The right to make network namespaces, for users who are not root.

A process may give itself a user namespace (user_namespaces(7)) in which it is root
over network namespaces of its own, and over nothing else. `ip netns` also wants to
write to /run, so there is a private, empty one. All of it ends with the process.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from flannelette.benchmarks.netns import RigError, tool

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21

TUN = Path("/dev/net/tun")

_libc = ctypes.CDLL(None, use_errno=True)


def become_privileged() -> bool:
    """See that network namespaces and the TUN device can be had. Raises RigError.

    True if that took a user namespace of our own."""
    tool("ip")
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError:
        advice = "run it as root" if os.geteuid() else "this container lacks it"
        raise RigError(f"no right to open {TUN}: {advice}") from None
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise RigError(f"cannot open {TUN} ({why}): load the module tun") from None
    if is_privileged():
        return False
    enter()
    return True


def is_privileged() -> bool:
    """May this process make network namespaces as it is?"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            caps = int(line.split()[1], 16)
            return os.geteuid() == 0 and bool(
                caps >> CAP_NET_ADMIN & caps >> CAP_SYS_ADMIN & 1
            )
    return False


def enter() -> None:
    """Move this process, which must have one thread, into namespaces of its own.

    Raises RigError: one line saying what this machine does not allow."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET))
        Path("/proc/self/setgroups").write_text("deny")  # else gid_map is refused
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
        _check(_libc.mount(b"run", b"/run", b"tmpfs", 0, b"mode=0755"))
    except OSError as error:
        raise RigError(
            "neither root's rights nor a user namespace to have them in"
            f" ({os.strerror(error.errno or 0)}): run it as root"
        ) from None


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
