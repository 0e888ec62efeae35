"""One path between a pretended TUN and a real UDP socket on loopback.

A UNIX datagram socket stands for the TUN: one read gives one packet, one write takes
one. So the pumps run without root, and under the sanitizers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network

from flannelette.dataplane.path import open_path
from flannelette.native.api import NO_OFFLOAD, Offload, PathConfig, Route
from tests.helpers.packets import MTU, TUN_ADDRESS

THERE = IPv4Network("10.5.2.0/24")


class Bench:
    """`kernel` is the kernel's side of the TUN, `peer` another node's socket."""

    def __init__(
        self,
        datapath: str = "native",
        batch: int = 64,
        offloads: Offload = NO_OFFLOAD,
    ) -> None:
        self.tun, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.underlay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for sock in (self.underlay, self.peer):
            sock.bind(("127.0.0.1", 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for sock in self.sockets:
            sock.setblocking(False)
        self.stop_fd = os.eventfd(0)
        self.config = PathConfig(
            self.tun.fileno(),
            self.underlay.fileno(),
            self.stop_fd,
            MTU,
            int(TUN_ADDRESS),
            batch,
            offloads,
        )
        address, port = self.peer.getsockname()
        self.route = Route.to(THERE, IPv4Address(address), port)
        self.path = open_path(datapath, self.config)
        self.path.set_routes([self.route])

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return self.tun, self.kernel, self.underlay, self.peer

    def close(self) -> None:
        self.path.close()
        os.close(self.stop_fd)
        for sock in self.sockets:
            sock.close()


@contextmanager
def bench(
    datapath: str = "native", batch: int = 64, offloads: Offload = NO_OFFLOAD
) -> Iterator[Bench]:
    it = Bench(datapath, batch, offloads)
    try:
        yield it
    finally:
        it.close()


def drain(sock: socket.socket) -> list[bytes]:
    """All that a non-blocking socket has."""
    got = []
    while True:
        try:
            got.append(sock.recv(65536))
        except BlockingIOError:
            return got
