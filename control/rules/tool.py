"""Running the programs that speak with the kernel's firewall."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import BinaryIO

from flannelette.control.errors import HostError
from flannelette.control.processes import (
    environment,
    file_in_memory,
    kill,
    start,
)

DEADLINE = 20.0
"""Seconds that one call may take; with ten thousand rules it takes a fraction."""
GRACE = 5.0
"""Seconds for a program that was killed to be gone: the kernel may be busy for it."""
_LOCKED = "holding the xtables lock"
"""What iptables says of a lock that it did not get; its exit code 4 has other meanings,
such as that we are not root."""
_SAID_MOST = 300
"""Characters of a complaint that are repeated."""


class RulesBusy(HostError):
    """Somebody else changes rules at this moment: to be tried again."""


def find(*names: str) -> str | None:
    """Where the first of these programs is that is installed; PATH often lacks sbin."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = (shutil.which(name, path=path) for name in names)
    return next((it for it in found if it is not None), None)


async def run(command: Sequence[str], text: str = "") -> str:
    """Run the command with this text on stdin; what it prints. Cancelled, it kills it,
    and what it has started.

    Raises HostError with what it complained of, RulesBusy if somebody else was in its
    way, OSError if it cannot be started."""
    name = os.path.basename(command[0])
    with ExitStack() as stack:
        # Files, not pipes: whoever may hold these open, there is nothing to wait for.
        out, err = (stack.enter_context(file_in_memory()) for _ in range(2))
        # Complaints as operators search them.
        environ = {**environment(), "LC_ALL": "C"}
        try:
            process = start(command, environ, text, out, err)
        except OSError as error:
            error.add_note(f"while starting {command[0]}")
            raise
        stack.callback(kill, process)
        try:
            async with asyncio.timeout(DEADLINE):
                await _end_of(process)
        except TimeoutError:
            raise RulesBusy(f"{name} did not end in {DEADLINE:.0f} s") from None
        printed, said = (_read(file) for file in (out, err))
    if process.returncode:
        said = " ".join(said.split())
        why = said[:_SAID_MOST] or f"exit {process.returncode}"
        if not why.startswith(name):  # many say themselves who speaks
            why = f"{name}: {why}"
        raise (RulesBusy if _LOCKED in said else HostError)(why)
    return printed


def _read(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


async def _end_of(process: subprocess.Popen[bytes]) -> None:
    """Wait for it; cancelled, kill it, and wait for that, if it does not take long."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    pidfd = os.pidfd_open(process.pid)
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    except asyncio.CancelledError:
        kill(process)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await ended.wait()
        raise
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        process.poll()
