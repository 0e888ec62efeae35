"""Running the programs that speak with the kernel's firewall."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence

from flannelette.control.errors import HostError

DEADLINE = 20.0
"""Seconds that one call may take; with ten thousand rules it takes a fraction."""
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
    """Run the command with this text on stdin; what it prints. Cancelled, it kills it.

    Raises HostError with what it complained of, RulesBusy if somebody else was in its
    way, OSError if it cannot be started."""
    process = _start(command)
    name = os.path.basename(command[0])
    loop = asyncio.get_running_loop()
    talk = loop.run_in_executor(None, process.communicate, text, DEADLINE)
    try:
        out, err = await asyncio.shield(talk)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise RulesBusy(f"{name} did not end in {DEADLINE:.0f} s") from None
    except asyncio.CancelledError:
        process.kill()
        await asyncio.wait([talk])
        raise
    if process.returncode:
        said = " ".join(err.split())
        why = said[:_SAID_MOST] or f"exit {process.returncode}"
        raise (RulesBusy if _LOCKED in said else HostError)(f"{name}: {why}")
    return out


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    """By Python's own vfork: the event loop's way is a fork, which copies our page
    tables and runs grpc's handlers."""
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},  # complaints as operators search them
        )
    except OSError as error:
        error.add_note(f"while starting {command[0]}")
        raise
