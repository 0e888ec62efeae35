"""What tests of network namespaces share: may we, and what was left behind."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from flannelette.benchmarks.netns import NAMES
from flannelette.benchmarks.rootless import is_privileged

needs_namespaces = pytest.mark.skipif(
    not is_privileged(), reason="needs root's right to make network namespaces"
)

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
"""Put before a command, it lets nobody run it."""
ROOT = Path(__file__).parents[2]
"""The project's own directory."""
MARK = "FLANNELETTE_TEST_MARK"
"""An environment variable: what a marked program starts inherits it."""


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until the condition holds; fail the test when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s: {condition}"
        time.sleep(0.01)


def namespaces(prefix: str) -> list[str]:
    """The names of the network namespaces that begin so."""
    if not NAMES.exists():
        return []
    return sorted(p.name for p in NAMES.iterdir() if p.name.startswith(prefix))


def marked(mark: str) -> dict[int, str]:
    """The command lines, by pid, of all processes with the mark, zombies excepted."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                words = (process / "cmdline").read_bytes().split(b"\0")
                line = b" ".join(words).decode(errors="replace")
                found[int(process.name)] = line
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def as_nobody(command: Sequence[str], tun_mode: str) -> list[str]:
    """The command for root to run, so that nobody runs this one, with a /dev/net/tun
    of that mode.

    All of it happens in a mount namespace of its own. There, what a private directory
    above our files hides from others (such as a root's home) is made reachable, and
    /dev/shm is a scratch directory for all. Skips the test where our files themselves
    are private."""
    needed = {str(ROOT), sys.prefix, sys.base_prefix}
    moves = {path: hidden for path in needed if (hidden := _hidden_below(path))}
    if any(path == hidden for path, hidden in moves.items()):
        pytest.skip(f"others may not read one of {sorted(moves)}")
    lines = [
        "set -e",
        "mount -t tmpfs -o mode=1777 none /dev/shm",
        "mknod /dev/shm/tun c 10 200",
        f"chmod {tun_mode} /dev/shm/tun",
        "mount --bind /dev/shm/tun /dev/net/tun",
    ]
    for number, path in enumerate(moves):
        lines.append(f"mkdir /dev/shm/{number}")
        lines.append(f"mount --rbind {shlex.quote(path)} /dev/shm/{number}")
    for hidden in set(moves.values()):
        lines.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(hidden)}")
    for number, path in enumerate(moves):
        lines.append(f"mkdir -p {shlex.quote(path)}")
        lines.append(f"mount --move /dev/shm/{number} {shlex.quote(path)}")
    run = [*NOBODY, "env", "TMPDIR=/dev/shm", *command]
    lines.append(f"exec {shlex.join(run)}")
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", "\n".join(lines)]


def _hidden_below(path: str) -> str | None:
    """The first directory on the way to path that others may not pass."""
    for step in [*reversed(Path(path).parents), Path(path)]:
        if not step.stat().st_mode & 0o001:
            return str(step)
    return None
