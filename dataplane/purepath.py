"""PurePath: forwarding in Python, one packet a call. The specification of FastPath.

tx: 1 read a frame from the TUN  2 wrap it (purecore.py), or answer  3 send the datagram
rx: 1 receive a datagram  2 unwrap it  3 write the packet to the TUN
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

from flannelette.dataplane.purecore import PureCore
from flannelette.encap import udp, vxlan
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    MAX_BATCH,
    MAX_FLOWS,
    NO_OFFLOAD,
    Burst,
    Counters,
    Direction,
    Offload,
    PathConfig,
    PeerCounters,
    Route,
    Watch,
)

MAX_PACKET = 65536
LEAST_MTU = 68
"""Bytes: the least that an IPv4 link may have (RFC 791)."""
PATIENCE_MS = 1
RUN_BUDGET = 64
_FULL = (errno.EAGAIN, errno.ENOBUFS)


class PurePath:
    """Forwards in Python. A teacher's and a tester's path: slow, and short."""

    def __init__(self, config: PathConfig) -> None:
        """Raises OSError: EINVAL for a setting out of range."""
        if not _is_sound(config):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._config = config
        self._core = PureCore(config)
        with ExitStack() as undo:

            def borrowed(fd: int) -> socket.socket:
                return undo.enter_context(socket.socket(fileno=os.dup(fd)))

            receivers = [borrowed(config.udp_fd)]
            receivers6 = [borrowed(fd) for fd in [config.udp6_fd] if fd >= 0]
            self._receivers = receivers + receivers6
            # By the IP version of the underlay, and then by flow.
            self._senders = {
                4: [borrowed(fd) for fd in config.flow_fds] or receivers,
                6: [borrowed(fd) for fd in config.flow6_fds] or receivers6,
            }
            self._sockets = undo.pop_all()
        # By direction: may this pump call still wait for a full socket or TUN?
        self._patient = [True, True]

    def close(self) -> None:
        self._sockets.close()

    def set_routes(self, routes: Sequence[Route]) -> None:
        try:
            self._core.set_routes(routes)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from None

    def del_routes(self, routes: Sequence[Route]) -> None:
        self._core.del_routes(routes)

    def offloads(self) -> Offload:
        return NO_OFFLOAD

    def peers(self) -> list[PeerCounters]:
        return self._core.peers()

    def counters(self, direction: Direction) -> Counters:
        return self._core.tallies[direction].counters()

    def watch(self, watch: Watch) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def unwatch(self) -> None:
        """There is no observer."""

    def watched(self, direction: Direction) -> tuple[bytes, int]:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def wrap(
        self, frames: Sequence[bytes], now: int
    ) -> tuple[list[Burst], list[bytes]]:
        return self._core.wrap(frames, now)

    def unwrap(self, bursts: Sequence[Burst], now: int = 0) -> list[bytes]:
        return self._core.unwrap(bursts, now)

    def pump(self, direction: Direction, budget: int) -> int:
        self._patient[direction] = True
        self._core.tallies[direction].pumps += 1
        if direction is Direction.TX:
            return _repeat(self._move_tx, budget)
        # Each socket has the whole budget: so none can starve another.
        return sum(_repeat(partial(self._move_rx, s), budget) for s in self._receivers)

    def _move_tx(self) -> None:
        tally = self._core.tallies[Direction.TX]
        tally.tun_calls += 1
        frame = os.read(self._config.tun_fd, MAX_PACKET)
        tally.moved_frame(len(frame))
        bursts, answers = self.wrap([frame], time.monotonic_ns())
        for burst in bursts:
            self._send(burst)
        for answer in answers:
            self._write(Direction.TX, answer)

    def _move_rx(self, sock: socket.socket) -> None:
        tally = self._core.tallies[Direction.RX]
        tally.wire_calls += 1
        burst = _receive(sock)
        tally.moved_message(len(burst.data))
        for frame in self.unwrap([burst], time.monotonic_ns()):
            if self._write(Direction.RX, frame):
                tally.forwarded(len(frame))
        for reply in self._core.replies:
            self._reply(sock, reply)

    def _reply(self, sock: socket.socket, reply: Burst) -> None:
        """To a probe, by the socket that received it. Whoever asks will ask again."""
        self._core.tallies[Direction.RX].wire_calls += 1
        with suppress(OSError):
            sock.sendto(reply.data, _target(reply))

    def _send(self, burst: Burst) -> None:
        tally = self._core.tallies[Direction.TX]
        overhead = vxlan.HEADER if self._config.vxlan else 0

        def send() -> None:
            tally.wire_calls += 1
            sock.sendto(burst.data, _target(burst))

        try:
            sock = self._sender(burst)
            self._patiently(Direction.TX, sock.fileno(), send)
        except OSError:
            tally.drops[Drop.SEND_FAILED] += 1
        else:
            tally.moved_message(len(burst.data))
            tally.forwarded(len(burst.data) - overhead)

    def _sender(self, burst: Burst) -> socket.socket:
        senders = self._senders[burst.outer]
        if not senders:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return senders[burst.flow]

    def _write(self, direction: Direction, frame: bytes) -> bool:
        """Was it taken? Raises OSError when the device is gone."""
        tun_fd, tally = self._config.tun_fd, self._core.tallies[direction]

        def write() -> None:
            tally.tun_calls += 1
            os.write(tun_fd, frame)

        try:
            self._patiently(direction, tun_fd, write)
        except OSError as error:
            if direction is Direction.RX:  # an answer is none of what is forwarded
                tally.drops[Drop.WRITE_FAILED] += 1
            if error.errno in (errno.EBADFD, errno.EBADF):
                raise
            return False
        tally.moved_frame(len(frame))
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
        sources = {
            Direction.TX: {config.tun_fd},
            Direction.RX: {config.udp_fd, config.udp6_fd} - {-1},
        }
        poller = select.poll()
        for direction in directions:
            for fd in sources[direction]:
                poller.register(fd, select.POLLIN)
        poller.register(config.stop_fd, select.POLLIN)
        while config.stop_fd not in (ready := dict(poller.poll())):
            for direction in directions:
                if sources[direction] & ready.keys():
                    self.pump(direction, RUN_BUDGET)

    def stop(self) -> None:
        os.eventfd_write(self._config.stop_fd, 1)


def _is_sound(config: PathConfig) -> bool:
    own = config.vxlan
    most = udp.MOST - (vxlan.HEADER if own else 0)
    return (
        LEAST_MTU <= config.mtu <= most
        and 0 <= config.mtu6 <= most
        and 1 <= config.batch <= MAX_BATCH
        and config.offloads == NO_OFFLOAD
        and len(config.flow_fds) <= MAX_FLOWS
        and len(config.flow6_fds) <= MAX_FLOWS
        and (own is None or own.vni < 1 << vxlan.VNI_BITS)
        and (own is None or own.mac < 1 << vxlan.MAC_BITS)
    )


def _repeat(move: Callable[[], None], budget: int) -> int:
    """Up to budget times, until it would block: how often it moved something."""
    for moved in range(budget):
        try:
            move()
        except BlockingIOError:
            return moved
    return budget


def _target(burst: Burst) -> tuple[str, int]:
    kind = IPv6Address if burst.outer == 6 else IPv4Address
    return str(kind(burst.address)), burst.port


def _receive(sock: socket.socket) -> Burst:
    """Raises OSError: BlockingIOError if there is nothing."""
    try:
        data, (host, port, *_) = sock.recvfrom(MAX_PACKET)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise
        # Nothing there, or an error of an earlier send, which is over once told.
        raise BlockingIOError from None
    peer = ip_address(host)
    return Burst(data, len(data), int(peer), port, peer.version)


def _wait_writable(fd: int) -> None:
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    poller.poll(PATIENCE_MS)
