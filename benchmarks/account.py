"""What the kernel books: processor time, context switches, bytes of devices.

Everything is read from /proc (proc(5)); the parsers take text. Counts only ever grow,
so what something has cost is the difference of two Books.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_BUSY = ("user", "nice", "system", "irq", "softirq")
_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
DATAGRAM_OVERHEAD = 14 + 20 + 8
"""Bytes before a datagram's payload on Ethernet: its, IPv4's and UDP's headers."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a network device has carried, both ways together."""

    bytes: int
    packets: int
    """As the kernel hands them on: a superpacket counts as one."""


@dataclass(frozen=True, slots=True)
class Books:
    """At one moment."""

    machine: float
    """Seconds that all processors were busy, interrupts included."""
    programs: float
    """Seconds of the programs watched, all threads."""
    switches: int
    """Context switches of the programs watched."""
    crossed: int
    """Bytes of packets that the programs watched took from the kernel or gave to it."""

    def __sub__(self, before: Books) -> Books:
        return Books(
            self.machine - before.machine,
            self.programs - before.programs,
            self.switches - before.switches,
            self.crossed - before.crossed,
        )


def read(pids: Iterable[int], tun: str | None) -> Books:
    """The books of now. The programs' own network namespace is looked at for what has
    crossed: all that went through the TUN, and the payload of all datagrams on eth0.

    Raises OSError for a program that has ended."""
    seconds, switches, crossed = 0.0, 0, 0
    for pid in pids:
        process = Path("/proc", str(pid))
        for task in (process / "task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended
                seconds += run_seconds((task / "schedstat").read_text())
                switches += context_switches((task / "status").read_text())
        if tun is not None:
            crossed += handed_over((process / "net/dev").read_text(), tun)
    busy, _ = machine_seconds(Path("/proc/stat").read_text())
    return Books(busy, seconds, switches, crossed)


def handed_over(text: str, tun: str) -> int:
    """From /proc/net/dev: what a daemon on that TUN and eth0 has handed over."""
    found = devices(text)
    wire = found["eth0"]
    return found[tun].bytes + wire.bytes - wire.packets * DATAGRAM_OVERHEAD


def machine_seconds(text: str) -> tuple[float, float]:
    """From /proc/stat: seconds that all processors were busy, and those that the
    hypervisor gave to others."""
    line = text.partition("\n")[0].split()
    ticks = dict(zip(_FIELDS, map(int, line[1:]), strict=False))
    return sum(ticks[name] for name in _BUSY) / _TICKS, ticks["steal"] / _TICKS


def run_seconds(text: str) -> float:
    """From a task's schedstat: how long it ran."""
    return int(text.split()[0]) / 1e9


def context_switches(text: str) -> int:
    """From a task's status: of both kinds."""
    return sum(
        int(line.split()[1])
        for line in text.splitlines()
        if line.startswith(("voluntary_ctxt", "nonvoluntary_ctxt"))
    )


def devices(text: str) -> dict[str, Device]:
    """From /proc/net/dev, by name."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        counts = [int(word) for word in rest.split()]
        found[name.strip()] = Device(counts[0] + counts[8], counts[1] + counts[9])
    return found
