"""Who calls the pumps: threads of their own, or the event loop.

Both tell `on_error` (on the loop) when a pump ends because a descriptor is dead.
"""

from __future__ import annotations

import asyncio
import errno
import select
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from flannelette.dataplane.path import Path
from flannelette.native.api import Direction, PathConfig

DRIVERS = ("thread", "threads", "loop")
"""thread: one for both directions of a queue; threads: one for each; loop: none."""

BUDGET = 256
"""Packets that one wake-up of the event loop may move: control must not starve."""

OnError = Callable[[OSError], None]


class Driver(Protocol):
    """Runs a path. Made and closed on the event loop; making one raises OSError."""

    @property
    def pumping(self) -> bool:
        """Do all pumps still run? One may have ended without a word."""

    def close(self) -> None:
        """Stop pumping; when this returns no pump is under way."""


class ThreadDriver:
    """Threads of its own, blocked in Path.run; the native path holds no GIL."""

    def __init__(
        self,
        path: Path,
        on_error: OnError,
        duties: Sequence[tuple[Direction, ...]],
    ) -> None:
        """`duties` has, for each thread, the directions that it pumps."""
        self._path = path
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._threads: list[threading.Thread] = []
        try:
            for directions in duties:
                self._start(directions)
        except RuntimeError as error:  # the machine has no thread left for us
            self.close()
            raise OSError(errno.EAGAIN, str(error)) from None

    @property
    def pumping(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def _start(self, directions: tuple[Direction, ...]) -> None:
        name = "-".join(["pump", *(d.name.lower() for d in directions)])
        thread = threading.Thread(target=self._run, args=directions, name=name)
        thread.start()
        self._threads.append(thread)

    def _run(self, *directions: Direction) -> None:
        try:
            self._path.run(*directions)
        except OSError as error:
            self._loop.call_soon_threadsafe(self._tell, error)

    def _tell(self, error: OSError) -> None:
        # Both pumps end when the TUN is gone; the second must not be taken for an error
        # of whatever has replaced this driver since.
        if not self._closed:
            self._on_error(error)

    def close(self) -> None:
        self._closed = True
        self._path.stop()
        for thread in self._threads:
            thread.join()


class LoopDriver:
    """The event loop pumps when a descriptor is readable: two frames of Python for a
    wake-up, none for a packet."""

    def __init__(self, path: Path, config: PathConfig, on_error: OnError) -> None:
        self._path = path
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        # libuv gives up a descriptor that reports an error, as a deleted TUN does. An
        # epoll around it is just readable then, and the pump learns the reason.
        self._epolls: dict[Direction, select.epoll] = {}
        self.pumping = True
        fds = {
            Direction.TX: [config.tun_fd],
            Direction.RX: [config.udp_fd, config.udp6_fd],
        }
        try:
            for direction in Direction:
                epoll = self._epolls[direction] = select.epoll()
                for fd in filter(lambda fd: fd >= 0, fds[direction]):
                    epoll.register(fd, select.EPOLLIN)
                self._loop.add_reader(epoll.fileno(), self._pump, direction)
        except OSError:
            self.close()
            raise

    def _pump(self, direction: Direction) -> None:
        try:
            self._path.pump(direction, BUDGET)
        except OSError as error:
            self._loop.remove_reader(self._epolls[direction].fileno())
            self.pumping = False
            self._on_error(error)

    def close(self) -> None:
        for epoll in self._epolls.values():
            self._loop.remove_reader(epoll.fileno())
            epoll.close()


def open_driver(name: str, path: Path, config: PathConfig, on_error: OnError) -> Driver:
    """The driver of that name, of DRIVERS."""
    match name:
        case "thread":
            return ThreadDriver(path, on_error, [tuple(Direction)])
        case "threads":
            return ThreadDriver(path, on_error, [(d,) for d in Direction])
        case _:
            return LoopDriver(path, config, on_error)
