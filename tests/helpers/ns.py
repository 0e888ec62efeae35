"""What tests of network namespaces share: may we, and what was left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flannelette.benchmarks.netns import NAMES
from flannelette.benchmarks.rootless import is_privileged

needs_namespaces = pytest.mark.skipif(
    not is_privileged(), reason="needs root's right to make network namespaces"
)

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


def marked(mark: str) -> list[str]:
    """The command lines of all processes that carry the mark, zombies excepted."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                words = (process / "cmdline").read_bytes().split(b"\0")
                found.append(b" ".join(words).decode(errors="replace"))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found
