"""The dataplane as control sees it: a socket that stays, a TUN that may be replaced."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from functools import reduce
from ipaddress import IPv4Address
from operator import or_

from flannelette.dataplane.drivers import OnError, open_driver
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
from flannelette.tun.device import TunDevice, open_tun

__all__ = [
    "MAX_BATCH",
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
    """Forwards between a TUN and the underlay socket. Lives on the event loop.

    Routes and counters outlive the TUN: whoever replaces a lost device goes on where
    the old one ended."""

    def __init__(
        self,
        underlay: socket.socket,
        datapath: str,
        driver: str,
        offload: Collection[str] = OFFLOADS,
        batch: int = 64,
    ) -> None:
        """The socket is the forwarder's from here on. `offload` names what may be
        used, of OFFLOADS; the Python path uses none. `batch` is how many packets one
        system call may move, 1 to MAX_BATCH; the Python path moves one."""
        self._underlay = underlay
        self._datapath = datapath
        self._driver_name = driver
        self._offload = frozenset(offload if datapath == "native" else ())
        self._batch = batch
        self._routes: dict[tuple[int, int], Route] = {}
        self._retired = {direction: NO_COUNTERS for direction in Direction}
        self._path: Path | None = None
        self._running: ExitStack | None = None

    @property
    def routes(self) -> list[Route]:
        """In order of prefix."""
        return [self._routes[key] for key in sorted(self._routes)]

    def open_tun(self) -> TunDevice:
        """A new TUN, with the offloads that may be used and are granted; it is the
        caller's until start(). Raises OSError."""
        return open_tun(tso="tso" in self._offload, uso="uso" in self._offload)

    def start(
        self, tun: TunDevice, mtu: int, address: IPv4Address, on_error: OnError
    ) -> None:
        """Forward. The device is the forwarder's from here on. Raises OSError.

        `mtu` is the overlay's, bytes; `address` is the TUN's; `on_error` is called on
        the loop when a pump has ended. After OSError the device is still the caller's,
        and start() may be tried again."""
        with ExitStack() as undo:
            stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, stop_fd)
            config = PathConfig(
                tun_fd=tun.fd,
                udp_fd=self._underlay.fileno(),
                stop_fd=stop_fd,
                mtu=mtu,
                address=int(address),
                batch=self._batch,
                offloads=self._granted(tun),
            )
            path = open_path(self._datapath, config)
            undo.callback(self._retire, path)
            path.set_routes(self.routes)
            driver = open_driver(self._driver_name, path, config, on_error)
            undo.callback(driver.close)
            running = undo.pop_all()
        self._path = path
        # What stops first is pushed last: the driver, the path, its eventfd, the TUN.
        self._running = ExitStack()
        self._running.callback(tun.close)
        self._running.push(running)

    def _retire(self, path: Path) -> None:
        for direction in Direction:
            self._retired[direction] += path.counters(direction)
        path.close()

    def _granted(self, tun: TunDevice) -> Offload:
        """What the TUN and the socket can do, of what may be used."""
        sock, offload = self._underlay, self._offload
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
        """Those in use: the kernel may refuse some at run time."""
        return NO_OFFLOAD if self._path is None else self._path.offloads()

    def stop(self) -> None:
        """Stop forwarding and close the TUN; start() may follow."""
        running, self._running = self._running, None
        if running is not None:
            running.close()
        self._path = None

    def close(self) -> None:
        self.stop()
        self._underlay.close()

    def set_routes(self, routes: Iterable[Route]) -> None:
        """Insert or replace. Raises OSError: EINVAL for what is no route."""
        routes = list(routes)
        if self._path is not None:
            self._path.set_routes(routes)
        self._routes.update({(r.prefix, r.length): r for r in routes})

    def del_routes(self, routes: Iterable[Route]) -> None:
        """Remove by prefix and length."""
        routes = list(routes)
        if self._path is not None:
            self._path.del_routes(routes)
        for route in routes:
            self._routes.pop((route.prefix, route.length), None)

    def counters(self, direction: Direction) -> Counters:
        """Since the forwarder was made, over all its TUNs."""
        if self._path is None:
            return self._retired[direction]
        return self._retired[direction] + self._path.counters(direction)
