"""Running commands of the operator's, which may say anything, or never end."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from flannelette.control.errors import HostError
from flannelette.control.processes import kill, start

DEADLINE = 30.0
"""Seconds that a command may take."""
OUTPUT_MOST = 64 * 1024
"""Bytes of what it says that are kept."""
_SAID_MOST = 300
"""Characters of a complaint that are repeated: the last."""
_CHUNK = 65536


async def run(command: Sequence[str], environ: Mapping[str, str], text: str) -> str:
    """Run the command with this text on stdin; what it said on stdout and stderr, and
    no more of it than OUTPUT_MOST. Cancelled, or after DEADLINE, it is killed, and with
    it what it has started in the meantime. What it leaves running when it ends goes on.

    Raises HostError if it fails, OSError if it cannot be started."""
    loop = asyncio.get_running_loop()
    process = start(command, environ, text, subprocess.PIPE, subprocess.STDOUT)
    talk = loop.run_in_executor(None, _wait, process, time.monotonic() + DEADLINE)
    try:
        output = await asyncio.shield(talk)
    except asyncio.CancelledError:
        kill(process)
        await asyncio.wait([talk])
        raise
    said = output.decode(errors="replace")
    if process.returncode:
        raise HostError(_complaint(process.returncode, said))
    return said


def _complaint(code: int, said: str) -> str:
    how = f"exit {code}" if code > 0 else f"killed by signal {-code}"
    words = " ".join(said.split())
    return f"{how}: {words[-_SAID_MOST:]}" if words else how


def _wait(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Until it ends; what it said. In a thread. Raises HostError."""
    assert process.stdout is not None
    said = bytearray()
    with ExitStack() as stack:
        stack.enter_context(process)
        stack.callback(kill, process)
        ended = os.pidfd_open(process.pid)
        stack.callback(os.close, ended)
        out = process.stdout.fileno()
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(out, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            ready = {fd for fd, _ in poll.poll(max(0.0, left) * 1000)}
            if not ready or left <= 0:
                raise HostError(f"did not end in {DEADLINE:.0f} s")
            if out in ready:
                chunk = os.read(out, _CHUNK)
                said += chunk[: OUTPUT_MOST - len(said)]
                if not chunk:
                    poll.unregister(out)
            elif ended in ready:  # who still holds its stdout is not waited for
                process.wait()
                return bytes(said)
