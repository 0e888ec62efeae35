"""What no test may leave behind, and no event loop may hide.

After each test: the same threads, child processes, open files and sockets, and network
namespaces as before it. No task was left for the loop's end to cancel, and nothing was
reported to the loop's exception handler.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import uvloop

# libuv makes one pipe for a process, with its first loop, and keeps it.
uvloop.new_event_loop().close()

PATIENCE = 5.0
"""Seconds for what ends by itself a moment later: executors, killed programs."""


def _threads() -> set[str]:
    # grpc keeps one thread for each process that ever used it.
    return {
        f"{thread.native_id} {thread.name}"
        for thread in threading.enumerate()
        if "_poll_wrapper" not in str(thread)
    }


def _children() -> set[str]:
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            found.add(f"{child.pid} {' '.join(child.cmdline())}")
        except psutil.NoSuchProcess:
            continue
    return found


def _files() -> set[str]:
    """Sockets, pipes and files by name; epolls, eventfds and pidfds by number."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:  # the directory's own descriptor
            continue
        found.add(f"{entry.name} {target}")
    return found


def _namespaces() -> set[str]:
    """Of rigs, but not of those that a live program outside these tests has up."""
    try:
        names = {path.name for path in Path("/run/netns").iterdir()}
    except FileNotFoundError:
        return set()
    return {name for name in names if not _somebody_elses(name)}


def _somebody_elses(name: str) -> bool:
    match = re.match(r"fl[a-z]*(\d+)", name)
    if match is None or not psutil.pid_exists(int(match[1])):
        return False
    ours = {process.pid for process in psutil.Process().children(recursive=True)}
    return int(match[1]) not in ours | {os.getpid()}


_LOOKS = {
    "threads": _threads,
    "processes": _children,
    "files": _files,
    "namespaces": _namespaces,
}


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up first and torn down last: fixtures clean up before it looks."""
    looks = dict(_LOOKS)
    path = request.node.path
    if path.parent.name == "etcd" or path.name.startswith("test_etcd"):
        del looks["files"]  # grpc keeps descriptors for each event loop it has seen
    before = {what: look() for what, look in looks.items()}
    yield
    deadline = time.monotonic() + PATIENCE
    while True:
        left = {what: look() - before[what] for what, look in looks.items()}
        left = {what: names for what, names in left.items() if names}
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert not left, f"left behind: {left}"


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        # grpc has one poller for a process, which may still wake a loop of a test that
        # has ended.
        if not ("PollerCompletionQueue" in text and "Event loop is closed" in text):
            self.texts.append(text)


@pytest.fixture(autouse=True)
def loops_end_clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    complaints = _Complaints()
    logger = logging.getLogger("asyncio")
    logger.addHandler(complaints)
    cancel = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]
    pending: list[str] = []

    def note_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
        pending.extend(str(task) for task in asyncio.all_tasks(loop))
        cancel(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", note_and_cancel)
    yield
    logger.removeHandler(complaints)
    assert not pending, f"tasks left to the end of their loop: {pending}"
    assert not complaints.texts, complaints.texts
