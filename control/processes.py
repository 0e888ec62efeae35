"""Starting the programs of others, and ending them with all that they have started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, BinaryIO

_SECRET = "FLANNELD_ETCD_PASSWORD"


def environment() -> dict[str, str]:
    """Our own, as far as other programs may know it: flanneld's tell the password."""
    return {name: value for name, value in os.environ.items() if name != _SECRET}


def file_in_memory() -> BinaryIO:
    """It ends with the last who has it open. Raises OSError."""
    return os.fdopen(os.memfd_create("flannelette"), "w+b")


def start(
    command: Sequence[str],
    environ: Mapping[str, str],
    text: str,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
) -> subprocess.Popen[bytes]:
    """The command, with this text on stdin, in a process group of its own. Raises
    OSError.

    By Python's own vfork: the event loop's way is a fork, which copies our page tables
    and runs grpc's handlers."""
    with file_in_memory() as given:  # who does not read its stdin cannot block us
        given.write(text.encode(errors="replace"))
        given.seek(0)
        return subprocess.Popen(
            command,
            stdin=given,
            stdout=stdout,
            stderr=stderr,
            env=environ,
            process_group=0,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """And what it has started, unless that left its group, or it has ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
