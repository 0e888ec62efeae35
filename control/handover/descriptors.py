"""The descriptors of a forwarder, by the names that they are passed on under."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack

from flannelette.control.handover.document import Document, HandoverError, Opened
from flannelette.dataplane.underlay import Underlay
from flannelette.tun.adopted import name_of
from flannelette.tun.device import TunDevice

DOCUMENT = "document"
TUN = "tun"


def named(tun: TunDevice, underlay: Underlay) -> dict[str, int]:
    """Each descriptor, borrowed, by its name."""
    groups = {
        TUN: tun.queues,
        "rx": [sock.fileno() for sock in underlay.rx],
        "rx6": [sock.fileno() for sock in underlay.rx6],
        "flow": [sock.fileno() for sock in underlay.flows],
        "flow6": [sock.fileno() for sock in underlay.flows6],
    }
    return {
        f"{group}-{number}": fd
        for group, fds in groups.items()
        for number, fd in enumerate(fds)
    }


def rebuilt(document: Document, fds: Mapping[str, int]) -> tuple[TunDevice, Underlay]:
    """What the descriptors are, which are the results' from here on.

    Raises HandoverError, and then they are still the caller's, when there are more or
    fewer than the document tells of, or one is something else."""
    opened, told = document.opened, document.tun
    counts = {TUN: opened.queues, "rx": opened.queues, "flow": opened.flows}
    if opened.address6 is not None:
        counts |= {"rx6": opened.queues, "flow6": opened.flows}
    wanted = {f"{group}-{n}" for group, count in counts.items() for n in range(count)}
    if fds.keys() != wanted:
        strangers = sorted(fds.keys() ^ wanted)
        raise HandoverError(f"its descriptors are not those it tells of: {strangers}")
    with ExitStack() as undo:
        sockets: dict[str, tuple[socket.socket, ...]] = {}
        try:
            for group, count in counts.items():
                if group == TUN:
                    continue
                those = [_socket(undo, fds[f"{group}-{n}"]) for n in range(count)]
                for sock in those:
                    _check_socket(sock, group, opened)
                sockets[group] = tuple(those)
            queues = tuple(fds[f"{TUN}-{n}"] for n in range(opened.queues))
            for fd in queues:
                if name_of(fd) != told.name:
                    raise HandoverError(f"its TUN is not {told.name}")
        except OSError as error:
            what = "its TUN is gone" if error.errno == errno.EBADFD else str(error)
            raise HandoverError(what) from None
        undo.pop_all()
    why = told.unsteered
    unsteered = OSError(why, os.strerror(why)) if why else None
    tun = TunDevice(queues, told.name, told.vnet, told.tso, told.uso, unsteered)
    groups = (sockets.get(group, ()) for group in ("rx", "rx6", "flow", "flow6"))
    return tun, Underlay(*groups)


def detach(underlay: Underlay) -> None:
    """Its descriptors are the caller's again."""
    for sock in underlay.sockets:
        sock.detach()


def _socket(undo: ExitStack, fd: int) -> socket.socket:
    """Raises OSError: ENOTSOCK among them."""
    sock = socket.socket(fileno=fd)
    undo.callback(sock.detach)
    sock.setblocking(False)
    return sock


def _check_socket(sock: socket.socket, group: str, opened: Opened) -> None:
    """Is it bound as the document says? Raises HandoverError, OSError."""
    address = opened.address6 if group.endswith("6") else opened.address
    if sock.type != socket.SOCK_DGRAM or sock.family not in (
        socket.AF_INET,
        socket.AF_INET6,
    ):
        raise HandoverError("one of its sockets is no UDP socket")
    bound, port, *_ = sock.getsockname()
    if bound != str(address) or (group.startswith("rx") and port != opened.port):
        raise HandoverError(f"one of its sockets is bound to {bound}:{port}")
