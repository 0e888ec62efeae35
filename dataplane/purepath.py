"""PurePath: forwarding in Python, one packet a call. The specification of FastPath.

tx: 1 read a frame from the TUN  2 check its header  3 find the peer, or answer
    "net unreachable"  4 take a hop  5 send it as a datagram
rx: 1 receive a datagram  2 check its header  3 take a hop  4 write it to the TUN
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address

from flannelette.dataplane.routes import RouteTable
from flannelette.encap import icmp, ip, udp
from flannelette.encap.drop import Drop, Dropped
from flannelette.native.api import (
    MAX_BATCH,
    NO_OFFLOAD,
    Burst,
    Counters,
    Direction,
    Offload,
    PathConfig,
    Route,
)

MAX_PACKET = 65536
PATIENCE_MS = 1
RUN_BUDGET = 64
_FULL = (errno.EAGAIN, errno.ENOBUFS)


class _Tally:
    """Counters in the making."""

    def __init__(self) -> None:
        self.packets = self.bytes = self.answers = self.answers_limited = 0
        self.drops = [0] * len(Drop)

    def forwarded(self, length: int) -> None:
        self.packets += 1
        self.bytes += length


class PurePath:
    """Forwards in Python. A teacher's and a tester's path: slow, and short."""

    def __init__(self, config: PathConfig) -> None:
        """Raises OSError: EINVAL for a setting out of range."""
        if not (
            68 <= config.mtu <= udp.MOST
            and 1 <= config.batch <= MAX_BATCH
            and config.offloads == NO_OFFLOAD
        ):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._config = config
        self._socket = socket.socket(fileno=os.dup(config.udp_fd))
        self._routes = RouteTable()
        self._limiter = icmp.Limiter()
        self._tallies = (_Tally(), _Tally())
        # By direction: may this pump call still wait for a full socket or TUN?
        self._patient = [True, True]

    def close(self) -> None:
        self._socket.close()

    def set_routes(self, routes: Sequence[Route]) -> None:
        try:
            self._routes.set(routes)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from None

    def del_routes(self, routes: Sequence[Route]) -> None:
        self._routes.delete(routes)

    def offloads(self) -> Offload:
        return NO_OFFLOAD

    def counters(self, direction: Direction) -> Counters:
        tally = self._tallies[direction]
        return Counters(
            tally.packets,
            tally.bytes,
            tally.answers,
            tally.answers_limited,
            tuple(tally.drops),
        )

    # ---- what happens to a packet --------------------------------------------------

    def wrap(
        self, frames: Sequence[bytes], now: int
    ) -> tuple[list[Burst], list[bytes]]:
        bursts: list[Burst] = []
        answers: list[bytes] = []
        for frame in frames:
            try:
                bursts.append(self._wrap_one(frame, now, answers))
            except Dropped as dropped:
                self._tallies[Direction.TX].drops[dropped.reason] += 1
        return bursts, answers

    def _wrap_one(self, packet: bytes, now: int, answers: list[bytes]) -> Burst:
        header = ip.parse(packet, self._config.mtu6 > 0)
        route = self._routes.find(header.destination, header.version)
        if route is None:
            self._answer(packet, header, icmp.NET_UNREACHABLE, now, answers)
            raise Dropped(Drop.NO_ROUTE)
        try:
            datagram = udp.wrap(packet, header, self._config.mtu)
        except Dropped as dropped:
            too_big = dropped.reason is Drop.OVERSIZE
            if too_big and header.fragment & ip.DONT_FRAGMENT:
                self._answer(packet, header, icmp.FRAGMENTATION_NEEDED, now, answers)
            raise
        return Burst(datagram, len(datagram), route.address, route.port)

    def _answer(
        self,
        packet: bytes,
        header: ip.Header,
        code: int,
        now: int,
        answers: list[bytes],
    ) -> None:
        tally = self._tallies[Direction.TX]
        if header.version == 6:
            return  # the drop is counted; nobody is told
        if not icmp.answerable(packet, header, code):
            return
        if not self._limiter.allow(now):
            tally.answers_limited += 1
            return
        mtu = self._config.mtu if code == icmp.FRAGMENTATION_NEEDED else 0
        source = self._config.address
        answers.append(icmp.unreachable(packet, header, source, code, mtu))
        tally.answers += 1

    def _unwrap_one(self, datagram: bytes) -> bytes:
        return udp.unwrap(datagram, self._config.mtu, self._config.mtu6 > 0)

    def unwrap(self, bursts: Sequence[Burst]) -> list[bytes]:
        frames: list[bytes] = []
        for burst in bursts:
            for start in range(0, max(len(burst.data), 1), max(burst.segment, 1)):
                datagram = burst.data[start : start + burst.segment]
                try:
                    frames.append(self._unwrap_one(datagram))
                except Dropped as dropped:
                    self._tallies[Direction.RX].drops[dropped.reason] += 1
        return frames

    # ---- the pumps -----------------------------------------------------------------

    def pump(self, direction: Direction, budget: int) -> int:
        move = self._move_tx if direction is Direction.TX else self._move_rx
        self._patient[direction] = True
        for moved in range(budget):
            try:
                move()
            except BlockingIOError:
                return moved
        return budget

    def _move_tx(self) -> None:
        frame = os.read(self._config.tun_fd, MAX_PACKET)
        bursts, answers = self.wrap([frame], time.monotonic_ns())
        for burst in bursts:
            self._send(burst)
        for answer in answers:
            self._write(Direction.TX, answer)

    def _move_rx(self) -> None:
        data, (address, port) = self._receive()
        tally = self._tallies[Direction.RX]
        peer = int(IPv4Address(address))
        for frame in self.unwrap([Burst(data, len(data), peer, port)]):
            if self._write(Direction.RX, frame):
                tally.forwarded(len(frame))

    def _receive(self) -> tuple[bytes, tuple[str, int]]:
        try:
            return self._socket.recvfrom(MAX_PACKET)
        except OSError as error:
            if error.errno == errno.EBADF:
                raise
            # Nothing there, or an error of an earlier send, which is over once told.
            raise BlockingIOError from None

    def _send(self, burst: Burst) -> None:
        tally = self._tallies[Direction.TX]
        target = (str(IPv4Address(burst.address)), burst.port)
        send = partial(self._socket.sendto, burst.data, target)
        try:
            self._patiently(Direction.TX, self._config.udp_fd, send)
        except OSError:
            tally.drops[Drop.SEND_FAILED] += 1
        else:
            tally.forwarded(len(burst.data))

    def _write(self, direction: Direction, frame: bytes) -> bool:
        """Was it taken? Raises OSError when the device is gone."""
        tun_fd = self._config.tun_fd
        try:
            self._patiently(direction, tun_fd, partial(os.write, tun_fd, frame))
        except OSError as error:
            if direction is Direction.RX:  # an answer is none of what is forwarded
                self._tallies[direction].drops[Drop.WRITE_FAILED] += 1
            if error.errno in (errno.EBADFD, errno.EBADF):
                raise
            return False
        return True

    def _patiently(
        self, direction: Direction, fd: int, move: Callable[[], object]
    ) -> None:
        """Do it; where fd is full, once more after a short wait, one in a pump call."""
        try:
            move()
        except OSError as error:
            if error.errno not in _FULL or not self._patient[direction]:
                raise
            self._patient[direction] = False
            _wait_writable(fd)
            move()

    def run(self, *directions: Direction) -> None:
        config = self._config
        sources = {Direction.TX: config.tun_fd, Direction.RX: config.udp_fd}
        poller = select.poll()
        for fd in (config.stop_fd, *(sources[direction] for direction in directions)):
            poller.register(fd, select.POLLIN)
        while config.stop_fd not in (ready := dict(poller.poll())):
            for direction in directions:
                if sources[direction] in ready:
                    self.pump(direction, RUN_BUDGET)

    def stop(self) -> None:
        os.eventfd_write(self._config.stop_fd, 1)


def _wait_writable(fd: int) -> None:
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    poller.poll(PATIENCE_MS)
