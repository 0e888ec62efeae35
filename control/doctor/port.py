"""Who has the UDP port that a daemon would need: flanneld, perhaps, or the kernel's
VXLAN device that it leaves behind.

The kernel lists sockets with the numbers of their inodes (proc_net(5)), and processes
those that they have open. A socket of the kernel's own is in no process. Only looked
at: to bind the port for a moment might keep a daemon from it that starts just then.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from flannelette.control.doctor.daemon import unit_of
from flannelette.control.doctor.facts import Facts, Holder
from flannelette.dataplane.asking import Address

_PROC = Path("/proc")
_ANY = (IPv4Address(0), IPv6Address(0))


def holder(facts: Facts, devices: Mapping[str, int]) -> Holder | None:
    """Who has the port; None if it is free, as far as can be seen. `devices`: the
    kernel's VXLAN devices with their ports."""
    backend, external, port = facts.backend, facts.external, facts.port
    if backend is None or external is None or port is None:
        return None
    own = (external.address, external.address6 if backend.dual_underlay else None)
    inodes = set(_bound(port, {*own, *_ANY}))
    if not inodes:
        return None
    for pid in _pids():
        if not inodes.isdisjoint(_sockets(pid)):
            return Holder(_named(pid), _stop(pid))
    if backend.carried_by == "kernel":
        return None  # the device is what the daemon makes, or takes over
    for device, its in devices.items():
        if its == port:
            return _device(device)
    return Holder("somebody who cannot be seen from here", f"ss -uapn sport = :{port}")


def _device(name: str) -> Holder:
    """With flanneld, where that runs; and who knows whose another device is?"""
    if not name.startswith("flannel"):
        return Holder(f"the kernel's device {name}", f"ip -details link show {name}")
    delete = f"ip link delete {name}"
    here = _namespace("thread-self")
    for pid in _pids():
        if _comm(pid) == "flanneld" and _namespace(pid) == here:
            who = f"{_named(pid)} by the kernel's device {name}"
            return Holder(who, f"{_stop(pid)}; {delete}")
    return Holder(f"the kernel's device {name}, which flanneld leaves behind", delete)


# ---- sockets -------------------------------------------------------------------------


def _bound(port: int, addresses: Collection[Address | None]) -> Iterator[int]:
    """The inodes of UDP sockets there."""
    for name in ("udp", "udp6"):
        with suppress(OSError):  # a kernel without IPv6
            for line in (
                (_PROC / "thread-self" / "net" / name).read_text().splitlines()[1:]
            ):
                words = line.split()
                address, _, its = words[1].partition(":")
                if int(its, 16) == port and _address(address) in addresses:
                    yield int(words[9])


def _address(text: str) -> Address:
    """In hexadecimal, by words of 32 bits in the host's byte order."""
    words = (int(text[at : at + 8], 16) for at in range(0, len(text), 8))
    return ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))


# ---- processes -----------------------------------------------------------------------


def _pids() -> list[str]:
    return [name for name in os.listdir(_PROC) if name.isdecimal()]


def _sockets(pid: str) -> Iterator[int]:
    """Their inodes; none of a process that has ended, or that we may not look at."""
    with suppress(OSError):
        for descriptor in (_PROC / pid / "fd").iterdir():
            with suppress(OSError):
                kind, _, inode = os.readlink(descriptor).partition(":")
                if kind == "socket":
                    yield int(inode.strip("[]"))


def _named(pid: str) -> str:
    return f"{_comm(pid)} (pid {pid})"


def _comm(pid: str) -> str:
    with suppress(OSError):
        return (_PROC / pid / "comm").read_text().rstrip("\n")
    return "a process"


def _namespace(process: str) -> str | None:
    with suppress(OSError):
        return os.readlink(_PROC / process / "ns" / "net")
    return None


def _stop(pid: str) -> str:
    """By its service, if it has one of its own; and wait for it."""
    with suppress(OSError):
        unit = unit_of(pid)
        if unit is not None and unit != unit_of("self"):
            return f"systemctl stop {unit}"
    return f"kill {pid} && tail -f /dev/null --pid={pid}"
