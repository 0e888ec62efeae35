"""What the daemons of a stand have counted, beside what the kernel has.

A Look is all counts of one moment; they only ever grow, so what a run has cost is the
difference of two. Only look() looks; the rest is arithmetic.

    host 1                                       host 2
    tx: tun_read, wire_send    ── packets ──▶    rx: wire_receive, tun_write
    rx: tun_write, wire_receive ◀── acks ────    tx: wire_send, tun_read
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flannelette.benchmarks import account, labrungs
from flannelette.benchmarks.cluster import Daemon
from flannelette.benchmarks.contenders import Stand
from flannelette.benchmarks.labdocument import (
    Check,
    Counts,
    Crossing,
    PlaceName,
    Sleeper,
    StageName,
    Stages,
    Theory,
)
from flannelette.benchmarks.labrungs import RungKind
from flannelette.benchmarks.netns import RigError

DirectionName = Literal["tx", "rx"]
DIRECTIONS: tuple[DirectionName, ...] = ("tx", "rx")

_TUN_CALLS = ("read", "readv", "write", "writev")
_WIRE_CALLS = ("sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg")
_WAIT_CALLS = ("poll", "ppoll", "epoll_wait", "epoll_pwait", "epoll_pwait2", "select")
COPIES = "skb:skb_copy_datagram_iovec"
ALL_CALLS = "raw_syscalls:sys_enter"
SYSTEM_CALLS = tuple(
    f"syscalls:sys_enter_{name}" for name in (*_TUN_CALLS, *_WIRE_CALLS, *_WAIT_CALLS)
)


@dataclass(frozen=True, slots=True)
class Host:
    """One daemon, at one moment."""

    counters: Mapping[str, Mapping[str, Any]]
    """By direction, as in the daemon's status."""
    wake_ups: int
    preemptions: int
    seconds: float
    """Of processor time."""
    tun_bytes: int
    """What it has read and written, by read(2) and write(2) and their like."""
    wire_bytes: int
    """Payload of the datagrams on the host's eth0."""


Look = Mapping[int, Host]
"""By host."""


def look(stand: Stand) -> Look:
    """The daemons of now; none where the kernel forwards. Raises RigError, OSError."""
    found = {}
    for daemon in stand.daemons:
        assert isinstance(daemon, Daemon)
        status = daemon.status()
        if status is None:
            raise RigError(f"{daemon.name} does not answer")
        found[daemon.number] = _host(status, Path("/proc", str(daemon.process.pid)))
    return found


def _host(status: Mapping[str, Any], process: Path) -> Host:
    tasks = list((process / "task").iterdir())
    seconds = [account.run_seconds((t / "schedstat").read_text()) for t in tasks]
    switched = [switches((t / "status").read_text()) for t in tasks]
    return Host(
        status["counters"],
        sum(voluntary for voluntary, _ in switched),
        sum(involuntary for _, involuntary in switched),
        sum(seconds),
        read_and_written((process / "io").read_text()),
        datagram_bytes((process / "net/dev").read_text()),
    )


def switches(text: str) -> tuple[int, int]:
    """From a task's status: context switches, voluntary and not."""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(lines["voluntary_ctxt_switches"]), int(
        lines["nonvoluntary_ctxt_switches"]
    )


def read_and_written(text: str) -> int:
    """From /proc/PID/io: bytes by read(2), write(2) and their like."""
    lines = dict(line.split(":", 1) for line in text.splitlines())
    return int(lines["rchar"]) + int(lines["wchar"])


def datagram_bytes(text: str) -> int:
    """From /proc/net/dev: UDP payload on eth0, both ways."""
    wire = account.devices(text)["eth0"]
    return wire.bytes - wire.packets * account.DATAGRAM_OVERHEAD


# ---- a run ---------------------------------------------------------------------------

_Grown = Mapping[tuple[int, DirectionName], Mapping[str, int]]
"""By host and direction: how much each count has grown."""
_DAEMONS: Mapping[PlaceName, tuple[int, DirectionName]] = {
    "tun_read": (1, "tx"),
    "wire_send": (1, "tx"),
    "wire_receive": (2, "rx"),
    "tun_write": (2, "rx"),
}
"""Who counts a place on the way there; on the way back it is the other host."""


def grown(before: Look, after: Look) -> _Grown:
    """The counts of a daemon that are plain numbers."""
    return {
        (host, direction): {
            name: value - before[host].counters[direction][name]
            for name, value in after[host].counters[direction].items()
            if isinstance(value, int)
        }
        for host in after
        for direction in DIRECTIONS
    }


def counts(
    kind: RungKind, mtu: int, before: Look, after: Look, payload: int, seconds: float
) -> Counts:
    """Of a run of one flow from host 1 to host 2 that has brought so many bytes."""
    packets = round(payload / (mtu - labrungs.HEADERS))
    rise = grown(before, after)
    there, back = [], []
    for place in kind.places:
        theory = labrungs.theory(kind, place, mtu)
        if place in _DAEMONS:
            host, direction = _DAEMONS[place]
            there.append(_crossing(place, rise[host, direction], theory))
            back.append(_crossing(place, rise[3 - host, direction], None))
        else:
            there.append(Crossing(place, packets, payload, None, None, theory))
    daemons = tuple(_sleeper(host, before[host], after[host], rise) for host in after)
    return Counts(payload, seconds, packets, tuple(there), tuple(back), daemons)


def _crossing(
    place: PlaceName, rise: Mapping[str, int], theory: Theory | None
) -> Crossing:
    keys = ("message_bytes", "wire_calls", "messages")
    if place.startswith("tun_"):
        keys = ("frame_bytes", "tun_calls", "frames")
    size, calls, units = (rise[key] for key in keys)
    return Crossing(place, rise["packets"], size, calls, units, theory)


def _sleeper(number: int, before: Host, after: Host, rise: _Grown) -> Sleeper:
    return Sleeper(
        number,
        after.wake_ups - before.wake_ups,
        after.preemptions - before.preemptions,
        sum(rise[number, direction]["pumps"] for direction in DIRECTIONS),
        after.seconds - before.seconds,
    )


def _sum(rise: _Grown, *names: str) -> int:
    return sum(each[name] for each in rise.values() for name in names)


# ---- the kernel's own counts ---------------------------------------------------------


def checks(before: Look, after: Look, traced: Mapping[str, int]) -> tuple[Check, ...]:
    """The daemons' counts beside the kernel's; `traced` has those of tracepoints, by
    name, and may be empty."""
    rise = grown(before, after)
    # A daemon's tx reads frames and sends; its rx receives and writes.
    copies = sum(
        each["frames" if direction == "tx" else "messages"]
        for (_, direction), each in rise.items()
    )
    found = [
        Check(what, source, counted, _of_calls(traced, names))
        for what, source, counted, names in (
            ("calls on the TUN", "read, write", _sum(rise, "tun_calls"), _TUN_CALLS),
            (
                "calls on the socket",
                "send, recv",
                _sum(rise, "wire_calls"),
                _WIRE_CALLS,
            ),
            (
                "pumps begun",
                "poll, epoll_wait",
                _sum(rise, "pumps"),
                _WAIT_CALLS,
            ),
        )
        if traced
    ]
    if COPIES in traced:
        found.append(Check("copies out of the kernel", COPIES, copies, traced[COPIES]))
    for what, source, counted, booked in (
        ("bytes over the TUN", "/proc/PID/io", "frame_bytes", "tun_bytes"),
        ("bytes over the socket", "/proc/PID/net/dev", "message_bytes", "wire_bytes"),
    ):
        kernel = sum(
            getattr(after[host], booked) - getattr(before[host], booked)
            for host in after
        )
        found.append(Check(what, source, _sum(rise, counted), kernel))
    return tuple(found)


def _of_calls(traced: Mapping[str, int], names: Sequence[str]) -> int:
    return sum(traced.get(f"syscalls:sys_enter_{name}", 0) for name in names)


def perf_counts(text: str) -> dict[str, int]:
    """From `perf stat -x,`: counts by event. An event that was not counted is not
    there."""
    found = {}
    for line in text.splitlines():
        count, _, rest = line.partition(",")
        if count.isdecimal():
            found[rest.split(",")[1]] = int(count)
    return found


# ---- stages --------------------------------------------------------------------------


def stages(before: Look, after: Look) -> tuple[Stages, ...]:
    """Where the time went, of either direction of either daemon; stages that took none
    are left out."""
    return tuple(
        Stages(host, direction, timed, spent)
        for host in after
        for direction in DIRECTIONS
        for timed, spent in [_spent(before[host], after[host], direction)]
    )


def _spent(
    before: Host, after: Host, direction: DirectionName
) -> tuple[int, dict[StageName, int]]:
    old, new = before.counters[direction], after.counters[direction]
    spent = {name: ns - old["stages"][name] for name, ns in new["stages"].items()}
    timed = new["timed_packets"] - old["timed_packets"]
    return timed, {name: ns for name, ns in spent.items() if ns}
