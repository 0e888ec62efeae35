"""iperf3's client in a pod: TCP throughput."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flannelette.benchmarks.contenders import IPERF_PORT, Stand
from flannelette.benchmarks.netns import RigError, tool

PATIENCE = 10.0
"""Seconds that a run may take beyond its own."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What the receiver got, of all flows."""

    bytes: int
    bits_per_second: float
    retransmits: int = 0
    """What the sender sent once more: segments."""


def command(target: str, flows: int, seconds: int) -> list[str]:
    """The client's command line."""
    return [
        tool("iperf3"),
        f"--client={target}",
        f"--port={IPERF_PORT}",
        f"--parallel={flows}",
        f"--time={seconds}",
        "--json",
    ]


def run(stand: Stand, flows: int, seconds: int, under: Sequence[str] = ()) -> Stream:
    """From the stand's first pod to its second; `under` goes before the command.

    Raises RigError."""
    source, _ = stand.pods
    line = [*under, *command(str(stand.target), flows, seconds)]
    try:
        done = stand.rig.run(source.ns, line, check=False, timeout=seconds + PATIENCE)
    except subprocess.TimeoutExpired:
        raise RigError("iperf3 did not end in time") from None
    if not done.stdout:
        raise RigError(f"iperf3 did not run: {' '.join(done.stderr.split())}")
    return parse(done.stdout)


@contextmanager
def background(stand: Stand, flows: int, seconds: int) -> Iterator[None]:
    """The same beside what the body does; it is ended with the body.

    Raises RigError if it ended before, and so was no load."""
    source, _ = stand.pods
    process = stand.rig.popen(
        source.ns,
        command(str(stand.target), flows, seconds),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        if process.poll() is not None:
            raise RigError("the load beside it ended too early")
    finally:
        stand.rig.stop(process)


def parse(text: str) -> Stream:
    """Read its JSON. Raises RigError, with iperf3's own words where it has some."""
    try:
        document: Any = json.loads(text)
    except ValueError:
        raise RigError("iperf3 ended without a result") from None
    if isinstance(document, dict) and "error" in document:
        raise RigError(f"iperf3: {document['error']}")
    try:
        received = document["end"]["sum_received"]
        again = document["end"].get("sum_sent", {}).get("retransmits", 0)
        stream = Stream(
            int(received["bytes"]), float(received["bits_per_second"]), int(again)
        )
    except (KeyError, TypeError, ValueError):
        raise RigError("iperf3's result is not understood") from None
    if not stream.bytes:
        raise RigError("iperf3: no bytes arrived")
    return stream
