"""What a result must say about the machine it was measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flannelette.benchmarks.account import machine_seconds
from flannelette.benchmarks.netns import RigError, tool
from flannelette.control import config

LOOK = 0.5
"""Seconds over which busy() looks."""
CALM = 0.05
"""The share of the processors that others may use for results to be trusted."""
CORES = os.cpu_count() or 1
HERE = Path(__file__).resolve().parents[1]


def describe(flanneld: Path | None) -> dict[str, str]:
    """Names and texts, in the order in which to show them."""
    found = {
        "machine": f"{CORES} x {_processor()}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "flannelette": f"{config.version()}, commit {_commit() or 'not known'}",
        "python": platform.python_version(),
    }
    for name, command in (
        ("iperf3", [_path("iperf3"), "--version"]),
        ("flanneld", [str(flanneld) if flanneld else "", "--version"]),
    ):
        found[name] = _said(command).partition("\n")[0].strip() or "not there"
    return found


def noise() -> str | None:
    """What disturbs a measurement that begins now, in words; None if nothing does."""
    before, started = _machine(), time.monotonic()
    time.sleep(LOOK)
    after, possible = _machine(), (time.monotonic() - started) * CORES
    busy, stolen = ((b - a) / possible for a, b in zip(before, after, strict=True))
    return disturbance(busy, stolen)


def disturbance(busy: float, stolen: float) -> str | None:
    """In words what others use and what the hypervisor takes away, as shares of the
    processors; None if that is little."""
    reasons = []
    if busy > CALM:
        reasons.append(f"other programs use {busy:.0%} of the processors")
    if stolen > CALM:
        reasons.append(f"the hypervisor takes {stolen:.0%} of the processors away")
    return " and ".join(reasons) or None


@contextmanager
def stolen() -> Iterator[Callable[[], float]]:
    """What the hypervisor gave to others while the body ran, as a share; ask after."""
    before, started, share = _machine()[1], time.monotonic(), 0.0
    yield lambda: share
    share = (_machine()[1] - before) / (time.monotonic() - started) / CORES


def _machine() -> tuple[float, float]:
    return machine_seconds(Path("/proc/stat").read_text())


def _processor() -> str:
    match = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.M)
    return " ".join(match[1].split()) if match else platform.machine()


def _commit() -> str | None:
    """Of the checkout this runs from; None for an installed package."""
    if not (HERE / ".git").exists():
        return None
    git = ["git", "-C", str(HERE), "-c", f"safe.directory={HERE}"]
    commit = _said([*git, "rev-parse", "--short=12", "HEAD"]).strip()
    changed = _said([*git, "status", "--porcelain", "--untracked-files=no"]).strip()
    return commit + " with changes" * bool(commit and changed) or None


def _path(name: str) -> str:
    try:
        return tool(name)
    except RigError:
        return ""


def _said(command: list[str]) -> str:
    """A program's stdout and stderr; empty when it cannot be run."""
    if not command[0]:
        return ""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout or done.stderr
