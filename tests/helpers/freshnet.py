"""Run a test's body in a network namespace that has no name.

It belongs to one thread and to what that thread starts: it ends with them, however the
test ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from flannelette.benchmarks.netns import CLONE_NEWNET, tool
from flannelette.tun.link import Netlink

T = TypeVar("T")

FRESH = (
    "link add name fl0 type veth peer name peer0",
    "link set peer0 up",
    "link set lo up",
)
"""Lines of ip(8) that make one device to play with, fl0."""


def in_fresh_net(
    body: Callable[[], Coroutine[Any, Any, T]],
    loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> T:
    """Run the coroutine in a thread, on a loop and in a namespace of its own."""

    def run() -> T:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"unshare: {os.strerror(error)}")
        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(body())

    with ThreadPoolExecutor(1, thread_name_prefix="freshnet") as thread:
        return thread.submit(run).result()


def ip(*lines: str) -> None:
    """Lines of ip(8), without the word itself, in this thread's namespace."""
    subprocess.run(
        [tool("ip"), "-batch", "-"], input="\n".join(lines), text=True, check=True
    )


def shown(command: str) -> Any:
    """What `ip -details -json COMMAND` says."""
    done = subprocess.run(
        [tool("ip"), "-details", "-json", *command.split()],
        text=True,
        check=True,
        stdout=subprocess.PIPE,
    )
    return json.loads(done.stdout or "[]")


def with_netlink(
    body: Callable[[Netlink], Awaitable[None]], setup: Sequence[str] = FRESH
) -> None:
    """Run the body in a fresh namespace, set up by lines of ip(8)."""

    async def run() -> None:
        ip(*setup)
        netlink = Netlink()
        try:
            await body(netlink)
        finally:
            await netlink.close()

    in_fresh_net(run)
