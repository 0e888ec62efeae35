"""Calls to rtnetlink through pyroute2, off the event loop.

pyroute2's asynchronous API does not run on uvloop, and its synchronous one runs an
event loop of its own. So one worker thread owns a synchronous IPRoute on a plain
selector loop, and whoever awaits a call may run any loop. The thread belongs to the
network namespace of whoever makes the first call.

NETLINK_GET_STRICT_CHK is on: the kernel itself picks what a dump asks for, such as one
device's routes. A machine may have 100 000 others.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

from pyroute2 import IPRoute, NetlinkError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_NLM_F_DUMP_INTR = 0x10
_DUMP_ATTEMPTS = 10


class Worker:
    """A thread with a netlink socket, which it opens at the first call."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="netlink")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ip: Any = None

    async def call(self, function: Callable[[Any, *Ts], T], *args: *Ts) -> T:
        """Run function(ip, *args) in the thread, where ip is the IPRoute."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._run, function, *args)

    async def close(self) -> None:
        """Close the socket and end the thread."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._drop)
        finally:
            self._thread.shutdown()

    def _run(self, function: Callable[[Any, *Ts], T], *args: *Ts) -> T:
        try:
            if self._ip is None:
                self._loop = asyncio.SelectorEventLoop()
                self._ip = IPRoute(strict_check=True, use_event_loop=self._loop)
            return function(self._ip, *args)
        except BaseException:
            # A socket that failed once may fail for ever (ENOBUFS): take a new one.
            self._drop()
            raise

    def _drop(self) -> None:
        ip, self._ip = self._ip, None
        loop, self._loop = self._loop, None
        if ip is not None:
            ip.close()
        if loop is not None:
            loop.run_until_complete(asyncio.sleep(0))  # the transport's last callback
            loop.close()


def dump(call: Any, **criteria: Any) -> list[Any]:
    """All entries that meet the criteria, which the kernel applies.

    `call` is one of IPRoute's methods. Raises OSError: EAGAIN when the tables change
    faster than they can be read, or what NetlinkError says."""
    for _ in range(_DUMP_ATTEMPTS):
        # Without dump_filter pyroute2 fetches all entries and filters them itself.
        messages = list(call("dump", dump_filter=None, **criteria))
        # After a change in mid-dump an entry may be there twice, or missing.
        if not any(m["header"]["flags"] & _NLM_F_DUMP_INTR for m in messages):
            return messages
    raise OSError(errno.EAGAIN, "the kernel's tables do not stop changing")


@contextmanager
def doing(what: str, *harmless: int) -> Iterator[None]:
    """Turn a NetlinkError into the OSError that it is, with a note; an errno among
    the harmless ones is passed over."""
    try:
        yield
    except NetlinkError as error:
        if error.code in harmless:
            return
        wrong = OSError(error.code, os.strerror(error.code))
        wrong.add_note(f"while {what}")
        raise wrong from None


class Attempts:
    """Many requests of which one that fails does not stop the others."""

    def __init__(self) -> None:
        self._first: OSError | None = None
        self._failures = 0

    @contextmanager
    def passing_over(self, what: str, *harmless: int) -> Iterator[None]:
        """As doing(), but an OSError waits for end()."""
        try:
            with doing(what, *harmless):
                yield
        except OSError as error:
            self._failures += 1
            self._first = self._first or error

    def end(self) -> None:
        """Raise the first OSError, if there was any."""
        if self._first is None:
            return
        if self._failures > 1:
            self._first.add_note(f"and {self._failures - 1} others failed")
        raise self._first
