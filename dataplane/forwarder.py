"""The dataplane as control sees it: sockets that stay, a TUN that may be replaced.

A queue is one of the TUN's, one socket, and a path of their own between the two, with
its pumps and counters; queues share nothing, so that cores need not wait for each
other. What keeps the packets of a flow in order is that all of them take one queue:

tx: the TUN chooses it by the packet's own bytes (tun/steering.py).
rx: the kernel chooses it by addresses and ports of the datagram. All that a peer sends
    has the same, so a queue has all of some peers. To choose by the inner packet would
    spread one peer's flows over the cores, but a GRO burst has packets of many flows
    and arrives in one piece: sent to the queue of its first packet, it would let the
    others overtake what waits in theirs.

The queue of a flow on tx and the one on rx need not be the same.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from functools import reduce
from ipaddress import IPv4Address
from operator import and_, or_
from typing import Literal

from flannelette.dataplane.drivers import DRIVERS, OnError, open_driver
from flannelette.dataplane.path import Path, open_path
from flannelette.dataplane.underlay import accept_bursts, sends_bursts
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    MAX_BATCH,
    NO_OFFLOAD,
    Counters,
    Direction,
    Offload,
    PathConfig,
    Route,
)
from flannelette.tun.device import MAX_QUEUES, TunDevice, open_tun

__all__ = [
    "DRIVERS",
    "MAX_BATCH",
    "MAX_QUEUES",
    "NO_COUNTERS",
    "NO_OFFLOAD",
    "OFFLOADS",
    "Direction",
    "Drop",
    "Forwarder",
    "Route",
]

OFFLOADS = ("tso", "uso", "gso", "gro")
"""tso, uso: superpackets of TCP, of UDP, through the TUN in both directions.
gso, gro: bursts through the socket, sent and received."""

NO_COUNTERS = Counters.zero(len(Drop))


class Forwarder:
    """Forwards between a TUN and the underlay. Lives on the event loop.

    Routes and counters outlive the TUN: whoever replaces a lost device goes on where
    the old one ended."""

    def __init__(
        self,
        underlay: Sequence[socket.socket],
        datapath: str,
        driver: str,
        offload: Collection[str] = OFFLOADS,
        batch: int = 64,
    ) -> None:
        """The sockets, one a queue, are the forwarder's from here on. `offload` names
        what may be used, of OFFLOADS; the Python path uses none. `batch` is how many
        packets one system call may move, 1 to MAX_BATCH; the Python path moves one."""
        self._underlay = tuple(underlay)
        self._datapath = datapath
        self._driver_name = driver
        self._offload = frozenset(offload if datapath == "native" else ())
        self._batch = batch
        self._routes: dict[tuple[int, int], Route] = {}
        self._retired = {direction: NO_COUNTERS for direction in Direction}
        self._tun: TunDevice | None = None
        self._paths: list[Path] = []
        self._running: ExitStack | None = None

    @property
    def routes(self) -> list[Route]:
        """In order of prefix."""
        return [self._routes[key] for key in sorted(self._routes)]

    def open_tun(self) -> TunDevice:
        """A new TUN, with the offloads that may be used and are granted; it is the
        caller's until start(). Raises OSError."""
        return open_tun(
            queues=len(self._underlay),
            tso="tso" in self._offload,
            uso="uso" in self._offload,
        )

    def start(
        self, tun: TunDevice, mtu: int, address: IPv4Address, on_error: OnError
    ) -> None:
        """Forward. The device is the forwarder's from here on. Raises OSError.

        `mtu` is the overlay's, bytes; `address` is the TUN's; `on_error` is called on
        the loop when the first pump has ended. After OSError the device is still the
        caller's, and start() may be tried again."""
        on_first_error = _once(on_error)
        paths: list[Path] = []
        with ExitStack() as undo:
            # One eventfd stops the pumps of all queues: they end together.
            stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, stop_fd)
            for tun_fd, sock in zip(tun.queues, self._underlay, strict=True):
                config = PathConfig(
                    tun_fd=tun_fd,
                    udp_fd=sock.fileno(),
                    stop_fd=stop_fd,
                    mtu=mtu,
                    address=int(address),
                    batch=self._batch,
                    offloads=self._granted(tun, sock),
                )
                path = open_path(self._datapath, config)
                undo.callback(self._retire, path)
                paths.append(path)
                path.set_routes(self.routes)
                driver = open_driver(self._driver_name, path, config, on_first_error)
                undo.callback(driver.close)
            running = undo.pop_all()
        self._tun, self._paths = tun, paths
        # What stops first is pushed last: drivers and paths, their eventfd, the TUN.
        self._running = ExitStack()
        self._running.callback(tun.close)
        self._running.push(running)

    def _retire(self, path: Path) -> None:
        for direction in Direction:
            self._retired[direction] += path.counters(direction)
        path.close()

    def _granted(self, tun: TunDevice, sock: socket.socket) -> Offload:
        """What the TUN and the socket can do, of what may be used."""
        offload = self._offload
        granted = {
            Offload.VNET: tun.vnet,
            Offload.MERGE_TCP: tun.tso,
            Offload.MERGE_UDP: tun.uso,
            Offload.GSO: "gso" in offload and sends_bursts(sock),
            Offload.GRO: "gro" in offload and accept_bursts(sock),
        }
        return reduce(or_, (bit for bit, is_on in granted.items() if is_on), NO_OFFLOAD)

    @property
    def offloads(self) -> Offload:
        """Those in use in every queue: the kernel may refuse some at run time."""
        if not self._paths:
            return NO_OFFLOAD
        return reduce(and_, (path.offloads() for path in self._paths))

    @property
    def steering(self) -> Literal["fixed", "automatic"] | None:
        """Does a flow keep its queue of the TUN, or may the kernel change it? None
        where there is nothing to choose: one queue, or no TUN."""
        if self._tun is None or len(self._tun.queues) == 1:
            return None
        return "fixed" if self._tun.unsteered is None else "automatic"

    def stop(self) -> None:
        """Stop forwarding and close the TUN; start() may follow."""
        running, self._running = self._running, None
        if running is not None:
            running.close()
        self._tun, self._paths = None, []

    def close(self) -> None:
        self.stop()
        for sock in self._underlay:
            sock.close()

    def set_routes(self, routes: Iterable[Route]) -> None:
        """Insert or replace. Raises OSError: EINVAL for what is no route."""
        routes = list(routes)
        for path in self._paths:
            path.set_routes(routes)
        self._routes.update({(r.prefix, r.length): r for r in routes})

    def del_routes(self, routes: Iterable[Route]) -> None:
        """Remove by prefix and length."""
        routes = list(routes)
        for path in self._paths:
            path.del_routes(routes)
        for route in routes:
            self._routes.pop((route.prefix, route.length), None)

    def counters(self, direction: Direction) -> Counters:
        """Since the forwarder was made, over all its TUNs and queues."""
        total = self._retired[direction]
        for path in self._paths:
            total += path.counters(direction)
        return total


def _once(on_error: OnError) -> OnError:
    """Of a device that is gone every pump tells; that is one event."""
    told = False

    def tell(error: OSError) -> None:
        nonlocal told
        if not told:
            told = True
            on_error(error)

    return tell
