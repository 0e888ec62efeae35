"""The dataplane as control sees it: sockets that stay, a TUN that may be replaced.

A queue is one of the TUN's, one socket for each IP version, and a path of their own
between them, with its pumps and counters; queues share nothing but the sockets that
send VXLAN, so that cores need not wait for each other. What keeps the packets of a flow
in order is that all of them take one queue:

tx: the TUN chooses it by the packet's own bytes (tun/steering.py).
rx: the kernel chooses it by addresses and ports of the datagram. All that a peer sends
    has the same, with VXLAN all of a flow: a queue has all of some peers, or of some of
    their flows. To choose by the inner packet would spread one peer's flows over the
    cores, but a GRO burst has packets of many flows and arrives in one piece: sent to
    the queue of its first packet, it would let the others overtake what waits in
    theirs.

The queue of a flow on tx and the one on rx need not be the same.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from ipaddress import IPv4Address, IPv6Address
from operator import and_
from typing import Literal

from flannelette.dataplane.drivers import DRIVERS, Driver, OnError, open_driver
from flannelette.dataplane.offloads import OFFLOADS, granted
from flannelette.dataplane.path import Path, open_path
from flannelette.dataplane.peertotals import Peer, PeerTotals
from flannelette.dataplane.underlay import (
    SocketFill,
    Underlay,
)
from flannelette.dataplane.watching import Told, Watching
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    EVENT,
    MAX_BATCH,
    NO_OFFLOAD,
    Counters,
    Direction,
    EventKind,
    Offload,
    PathConfig,
    PeerCheck,
    PeerCounters,
    Route,
    Stage,
    Vxlan,
    Watch,
)
from flannelette.tun.device import MAX_QUEUES, TunDevice, open_tun
from flannelette.tun.unread import unread_drops

__all__ = [
    "DRIVERS",
    "EVENT",
    "MAX_BATCH",
    "MAX_QUEUES",
    "NO_COUNTERS",
    "NO_OFFLOAD",
    "OFFLOADS",
    "PEER_CHECKS",
    "Direction",
    "Drop",
    "Endpoint",
    "EventKind",
    "Forwarder",
    "Offload",
    "PeerCounters",
    "Route",
    "Stage",
    "Told",
    "Vxlan",
    "Watch",
]

PEER_CHECKS = tuple(check.name.lower() for check in PeerCheck)
"""Whose packets are taken: anybody's; a known peer's; and only its own."""

NO_COUNTERS = Counters.zero(len(Drop))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Our end of the overlay, known once there is a lease."""

    address: IPv4Address
    """The TUN's."""
    mtu: int
    """Of IPv4 packets, bytes."""
    address6: IPv6Address | None = None
    mtu6: int = 0
    """Of IPv6 packets, bytes; 0: none are carried."""
    vxlan: Vxlan | None = None
    """None: flannel's udp backend."""


class Forwarder:
    """Forwards between a TUN and the underlay. Lives on the event loop.

    Routes and counters outlive the TUN: whoever replaces a lost device goes on where
    the old one ended."""

    def __init__(
        self,
        underlay: Underlay,
        datapath: str,
        driver: str,
        offload: Collection[str] = OFFLOADS,
        batch: int = 64,
        peer_check: str = "off",
        time_stages: int = 0,
    ) -> None:
        """The underlay is the forwarder's from here on. `offload` names what may be
        used, of OFFLOADS; the Python path uses none. `batch` is how many packets one
        system call may move, 1 to MAX_BATCH; the Python path moves one. `peer_check`
        is of PEER_CHECKS. `time_stages`: the native path times its stages in one
        round of so many; 0: never."""
        self._underlay = underlay
        self._datapath = datapath
        self._driver_name = driver
        self._offload = frozenset(offload if datapath == "native" else ())
        self._batch = batch
        self._peer_check = PeerCheck[peer_check.upper()]
        self._time_stages = time_stages
        self._routes: dict[tuple[int, int, int], Route] = {}
        self._retired = {direction: NO_COUNTERS for direction in Direction}
        self._totals = PeerTotals()
        self._tun: TunDevice | None = None
        self._paths: list[Path] = []
        self._drivers: list[Driver] = []
        self._watching = Watching()
        self._running: ExitStack | None = None

    @property
    def routes(self) -> list[Route]:
        """In order of prefix, IPv4 first."""
        return [self._routes[key] for key in sorted(self._routes)]

    @property
    def tun(self) -> TunDevice | None:
        """The one it forwards for, and closes."""
        return self._tun

    @property
    def underlay(self) -> Underlay:
        """Its own."""
        return self._underlay

    def open_tun(self) -> TunDevice:
        """A new TUN, with the offloads that may be used and are granted; it is the
        caller's until start(). Raises OSError."""
        return open_tun(
            queues=len(self._underlay.rx),
            tso="tso" in self._offload,
            uso="uso" in self._offload,
        )

    def start(self, tun: TunDevice, endpoint: Endpoint, on_error: OnError) -> None:
        """Forward. The device is the forwarder's from here on. Raises OSError.

        `on_error` is called on the loop when the first pump has ended. After OSError
        the device is still the caller's, and start() may be tried again."""
        on_first_error = _once(on_error)
        paths: list[Path] = []
        drivers: list[Driver] = []
        with ExitStack() as undo:
            # One eventfd stops the pumps of all queues: they end together.
            stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, stop_fd)
            for queue in range(len(tun.queues)):
                config = self._config(tun, queue, endpoint, stop_fd)
                path = open_path(self._datapath, config)
                undo.callback(self._retire, path)
                paths.append(path)
                path.set_routes(self.routes)
                self._watching.path_begins(path)
                undo.callback(self._watching.path_ends, queue, path)
                driver = open_driver(self._driver_name, path, config, on_first_error)
                undo.callback(driver.close)
                drivers.append(driver)
            running = undo.pop_all()
        self._tun, self._paths, self._drivers = tun, paths, drivers
        # What stops first is pushed last: drivers and paths, their eventfd, the TUN.
        self._running = ExitStack()
        self._running.callback(tun.close)
        self._running.push(running)

    def _retire(self, path: Path) -> None:
        for direction in Direction:
            self._retired[direction] += path.counters(direction)
        self._totals.add(path.peers())
        path.close()

    def _config(
        self, tun: TunDevice, queue: int, endpoint: Endpoint, stop_fd: int
    ) -> PathConfig:
        underlay = self._underlay
        rx = [underlay.rx[queue], *underlay.rx6[queue : queue + 1]]
        return PathConfig(
            tun_fd=tun.queues[queue],
            udp_fd=rx[0].fileno(),
            udp6_fd=rx[1].fileno() if len(rx) > 1 else -1,
            flow_fds=tuple(sock.fileno() for sock in underlay.flows),
            flow6_fds=tuple(sock.fileno() for sock in underlay.flows6),
            stop_fd=stop_fd,
            mtu=endpoint.mtu,
            mtu6=endpoint.mtu6,
            address=int(endpoint.address),
            address6=int(endpoint.address6 or 0),
            batch=self._batch,
            offloads=granted(self._offload, tun, rx),
            vxlan=endpoint.vxlan,
            peer_check=self._peer_check,
            time_stages=self._time_stages,
        )

    @property
    def offloads(self) -> Offload:
        """Those in use in every queue: the kernel may refuse some at run time."""
        if not self._paths:
            return NO_OFFLOAD
        return reduce(and_, (path.offloads() for path in self._paths))

    @property
    def pumping(self) -> bool:
        """Does it forward? Not before start(), and not once a pump has ended."""
        return bool(self._drivers) and all(one.pumping for one in self._drivers)

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
        self._tun, self._paths, self._drivers = None, [], []

    def close(self) -> None:
        self.stop()
        self._underlay.close()

    def set_routes(self, routes: Iterable[Route]) -> None:
        """Insert or replace. Raises OSError: EINVAL for what is no route."""
        routes = list(routes)
        for path in self._paths:
            path.set_routes(routes)
        self._routes.update({_key(route): route for route in routes})
        self._totals.keep(self._peers)

    def del_routes(self, routes: Iterable[Route]) -> None:
        """Remove by prefix and length."""
        routes = list(routes)
        for path in self._paths:
            path.del_routes(routes)
        for route in routes:
            self._routes.pop(_key(route), None)
        self._totals.keep(self._peers)

    def _peers(self) -> set[Peer]:
        return {(route.outer, route.address) for route in self._routes.values()}

    def peers(self) -> list[PeerCounters]:
        """Of the peers that routes lead to, since they do, over all TUNs and queues; in
        order of address, IPv4 first."""
        counted = (one for path in self._paths for one in path.peers())
        return self._totals.of(self._peers(), counted)

    def counters(self, direction: Direction) -> Counters:
        """Since the forwarder was made, over all its TUNs and queues."""
        total = self._retired[direction]
        for path in self._paths:
            total += path.counters(direction)
        return total

    def fill(self) -> list[SocketFill]:
        """What waits in the sockets that receive. Raises OSError."""
        return self._underlay.fill()

    def tun_drops(self) -> int | None:
        """Frames that this TUN lost because it was full; None: there is none."""
        return None if self._tun is None else unread_drops(self._tun.name)

    def watch(self, watch: Watch) -> None:
        """Begin to tell what happens to packets, over all TUNs to come; times are
        nanoseconds since 1970, whatever `epoch` says.

        Raises OSError: EBUSY when somebody watches, EINVAL for a filter that cannot be
        run, ENOTSUP for the path in Python."""
        self._watching.begin(watch, self._paths)

    def unwatch(self) -> None:
        """Tell no more."""
        self._watching.end(self._paths)

    def watched(self) -> Iterator[Told]:
        """What was told since."""
        return self._watching.told(self._paths)


def _key(route: Route) -> tuple[int, int, int]:
    return route.version, route.prefix, route.length


def _once(on_error: OnError) -> OnError:
    """Of a device that is gone every pump tells; that is one event."""
    told = False

    def tell(error: OSError) -> None:
        nonlocal told
        if not told:
            told = True
            on_error(error)

    return tell
