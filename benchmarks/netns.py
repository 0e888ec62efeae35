"""Network namespaces by name, kept where `ip netns` keeps them.

They are made by iproute2 and entered by setns(2), which moves one thread: whatever
that thread then starts or opens belongs to the namespace, and stays there. So
programs run inside without a helper, and a test can hold sockets in several hosts.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from flannelette.benchmarks.interrupts import held
from flannelette.control.rules.tool import find

NAMES = Path("/run/netns")
CLONE_NEWNET = 0x40000000
DEADLINE = 20.0
"""Seconds that one call of a tool may take; a batch takes milliseconds."""

_libc = ctypes.CDLL(None, use_errno=True)


class RigError(Exception):
    """The machine refused to be a rig; the message is one line for its owner."""


@contextmanager
def inside(ns: str) -> Iterator[None]:
    """Move this thread into the namespace for the body: to open a socket, to start a
    program, to write /proc/sys/net. Raises OSError.

    Keep the body short: signals wait for its end. Never await inside, for all tasks
    of the thread would be in the namespace meanwhile."""
    with held():
        target = os.open(NAMES / ns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(target, ns)
                try:
                    yield
                finally:
                    _setns(home, "the namespace before")
            finally:
                os.close(home)
        finally:
            os.close(target)


def _setns(fd: int, name: str) -> None:
    if _libc.setns(fd, CLONE_NEWNET) < 0:
        error = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        error.add_note(f"while entering network namespace {name}")
        raise error


def ip(lines: Iterable[str], ns: str | None = None) -> None:
    """Run lines of `ip` (each without the word `ip`) as one batch, in ns or here.

    Raises RigError for the first line that fails; those after it are not tried."""
    call([tool("ip"), "-batch", "-"], ns, text="\n".join(lines))


def call(command: list[str], ns: str | None = None, text: str = "") -> str:
    """Run a tool that changes the machine, to its end, whatever signal comes.

    Returns its output. Raises RigError with what it said on stderr."""
    with held():
        process = _start(command, ns)
        try:
            out, err = process.communicate(text, timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise RigError(f"{command[0]}: no end after {DEADLINE:.0f} s") from None
    if process.returncode:
        said = " ".join(err.split()) or f"exit {process.returncode}"
        raise RigError(f"{' '.join(command)}: {said}")
    return out


def _start(command: list[str], ns: str | None) -> subprocess.Popen[str]:
    if ns is not None:
        with inside(ns):
            return _start(command, None)
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # a Ctrl-C at the terminal must not cut it short
    )


def tool(name: str) -> str:
    """Where a system program is. Raises RigError."""
    found = find(name)
    if found is None:
        raise RigError(f"the program {name} is needed and not installed")
    return found


def sysctl(ns: str, name: str, value: int | str) -> None:
    """Set net.* inside the namespace, as sysctl(8) does. Raises OSError."""
    with inside(ns):
        Path("/proc/sys", *name.split(".")).write_text(f"{value}\n")


def end(processes: Sequence[subprocess.Popen[Any]], grace: float) -> None:
    """SIGTERM to each program's group, which it must lead (its pid names it), and
    SIGKILL to what is left after grace seconds; close their pipes."""
    running = [process for process in processes if process.poll() is None]
    if grace:
        for process in running:
            _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + grace
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    for process in running:
        _signal_group(process, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(DEADLINE)
    for process in processes:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def _signal_group(process: subprocess.Popen[Any], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def evict(names: Iterable[str], grace: float) -> None:
    """End whatever still runs in the namespaces, for it would keep them alive:
    SIGTERM, and SIGKILL after grace seconds."""
    with ExitStack() as stack:
        waiting = select.poll()
        left = set(_pidfds(names))
        for fd in left:
            stack.callback(os.close, fd)
            waiting.register(fd, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for fd in left:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)
            deadline = time.monotonic() + grace
            while left and (rest := deadline - time.monotonic()) > 0:
                for fd, _ in waiting.poll(rest * 1000):
                    waiting.unregister(fd)
                    left.remove(fd)


def _pidfds(names: Iterable[str]) -> Iterator[int]:
    """A pidfd of every process in the namespaces, this one excepted."""
    wanted = {ident for name in names if (ident := _ident(NAMES / name))}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(int(entry.name))
            # Asked after the open, so that it is about the process the fd holds.
            if _ident(entry / "ns/net") in wanted:
                yield fd
            else:
                os.close(fd)


def _ident(namespace: Path) -> tuple[int, int] | None:
    """What tells one namespace from another; None where we may not look."""
    try:
        found = namespace.stat()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return found.st_dev, found.st_ino


def delete(names: Iterable[str]) -> None:
    """Remove the namespaces that are there, each tried. Raises RigError at last."""
    errors = []
    for name in names:
        if not os.path.lexists(NAMES / name):
            continue
        try:
            ip([f"netns delete {name}"])
        except RigError as error:
            errors.append(str(error))
    if errors:
        raise RigError("; ".join(errors))
