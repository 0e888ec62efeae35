"""A document of the lab as a run might give it; the numbers are invented."""

from __future__ import annotations

import msgspec

from flannelette.benchmarks import labdocument, results
from flannelette.benchmarks.contenders import BY_NAME
from flannelette.benchmarks.labdocument import (
    KERNEL_PLACES,
    PLACES,
    Check,
    Counts,
    Crossing,
    Document,
    PlaceName,
    Rung,
    Sleeper,
    Stages,
    Theory,
    TimerCost,
)
from flannelette.benchmarks.results import Place, Results

RUN = "5a3b1e00"
WIRE = "nic"
MTU = 1472
PAYLOAD = MTU - 52
PACKETS = 200_000

_FIGURES: dict[str, dict[str, float]] = {
    "none": {"tcp1": 9.4, "udp64": 310, "rtt": 31, "machine_gb": 1.2, "copies": 2},
    "vxlan": {"tcp1": 5.5, "udp64": 138, "rtt": 52, "machine_gb": 2.7, "copies": 2},
    "python": {
        "tcp1": 0.09,
        "udp64": 7.1,
        "rtt": 410,
        "machine_gb": 160,
        "daemons_gb": 128,
        "copies": 6.25,
        "syscalls": 4.6,
        "switches": 0.92,
    },
    "c": {
        "tcp1": 0.62,
        "udp64": 62,
        "rtt": 190,
        "machine_gb": 26,
        "daemons_gb": 18.4,
        "copies": 6.22,
        "syscalls": 4.3,
        "switches": 0.41,
    },
    "batched": {
        "tcp1": 1.2,
        "udp64": 128,
        "rtt": 195,
        "machine_gb": 14,
        "daemons_gb": 10.2,
        "copies": 6.21,
        "syscalls": 2.3,
        "switches": 0.2,
    },
    "gso": {
        "tcp1": 2.1,
        "udp64": 131,
        "rtt": 198,
        "machine_gb": 8.1,
        "daemons_gb": 5.3,
        "copies": 6.2,
        "syscalls": 2.1,
        "switches": 0.12,
    },
    "tun": {
        "tcp1": 7.3,
        "udp64": 133,
        "rtt": 201,
        "machine_gb": 2.2,
        "daemons_gb": 1.12,
        "copies": 6.1,
        "syscalls": 0.071,
        "switches": 0.016,
    },
    "thread": {
        "tcp1": 7.6,
        "udp64": 185,
        "rtt": 186,
        "machine_gb": 2.1,
        "daemons_gb": 1.04,
        "copies": 6.09,
        "syscalls": 0.062,
        "switches": 0.013,
    },
    "threads": {
        "tcp1": 7.1,
        "udp64": 160,
        "rtt": 205,
        "machine_gb": 2.4,
        "daemons_gb": 1.2,
        "copies": 6.09,
        "syscalls": 0.08,
        "switches": 0.03,
    },
}
_TOGETHER = {"python": 1.0, "c": 1.0, "batched": 1.0, "gso": 1.0}
"""Packets in a call at the TUN; 42 of the others."""
_SENT_TOGETHER = {"python": 1.0, "c": 1.0, "batched": 6.0, "gso": 17.0}
_SLOWNESS = {"c": 20.0, "batched": 12.0, "gso": 8.0}


def document() -> Document:
    """Everything there, but the stages of PurePath."""
    return Document(
        format=labdocument.FORMAT,
        command="flannelette lab --output=lab.html --wire=nic",
        wire=WIRE,
        seconds=171.4,
        machine={
            "machine": "2 x Some(R) Processor",
            "kernel": "Linux 6.18.44 x86_64",
            "flannelette": "0.1.0, commit 3b8817f01234",
            "python": "3.11.7",
        },
        offloads=("tso", "uso", "gso", "gro"),
        ladder=msgspec.Raw(results.dump(ladder())),
        rungs=tuple(_rung(name) for name in _FIGURES),
        timers=TimerCost("tun", 64, (7.3, 7.5, 7.1), (7.2, 7.4, 7.2)),
        notes=(
            "no hardware counters here: cache misses are not to be had",
            "PurePath takes no time of its stages",
        ),
    )


def ladder() -> Results:
    """Figures over three rounds, of what _FIGURES says."""
    found = Results(RUN, "2026-11-22T10:00:00Z", {}, {"rounds": "3"})
    for name, figures in _FIGURES.items():
        values = dict(figures)
        values["tcp4"] = values["tcp1"] * 1.05
        values["rtt_p99"] = values["rtt"] * 1.7
        for metric, value in values.items():
            for factor in (0.94, 1.0, 1.09):
                found.add(Place(WIRE, name, metric), value * factor)
    return found


def without_figures(metrics: set[str]) -> Results:
    """The sample's ladder without those."""
    found = Results(RUN, "some day", {}, {})
    for figure in ladder():
        if figure.place.metric not in metrics:
            for value in figure.values:
                found.add(figure.place, value)
    return found


def with_ladder(found: Results) -> Document:
    """The sample with that ladder."""
    return msgspec.structs.replace(document(), ladder=msgspec.Raw(results.dump(found)))


def rung(document: Document, name: str) -> Rung:
    """That rung of it."""
    return next(rung for rung in document.rungs if rung.name == name)


def changed(document: Document, name: str, **fields: object) -> Document:
    """The same document with that rung's fields changed."""
    rungs = tuple(
        msgspec.structs.replace(rung, **fields) if rung.name == name else rung
        for rung in document.rungs
    )
    return msgspec.structs.replace(document, rungs=rungs)


def _rung(name: str) -> Rung:
    contender = BY_NAME[name]
    daemon = contender.flags is not None
    return Rung(
        name=name,
        title=contender.about,
        switched=contender.about if daemon else "",
        gain="A call costs the same for one packet and for many. What is left is the"
        " kernel's own way through its stack, once for each packet.",
        flags=contender.flags,
        mtu=MTU,
        counts=_counts(name, daemon),
        checks=(
            (Check("system calls on the TUN", "tracepoints", 401_220, 401_223),)
            if daemon
            else ()
        ),
        stages=_stages(_SLOWNESS.get(name, 1.0))
        if daemon and name != "python"
        else None,
    )


def _counts(name: str, daemon: bool) -> Counts:
    at_tun = _TOGETHER.get(name, 42.0)
    sent = _SENT_TOGETHER.get(name, 43.0)
    together = {
        "app_send": 92.0,
        "tun_read": at_tun,
        "wire_send": sent,
        "wire_receive": sent,
        "tun_write": at_tun,
        "app_receive": 31.0,
    }
    theory = {place: Theory(MTU, 1 / n, 1 / n) for place, n in together.items()}
    places = PLACES if daemon else KERNEL_PLACES
    return Counts(
        payload=PACKETS * PAYLOAD,
        seconds=1.0,
        packets=PACKETS,
        there=tuple(_crossing(p, PACKETS, together[p], theory[p]) for p in places),
        back=tuple(_crossing(p, PACKETS // 20, 1.0, None) for p in PLACES[1:-1])
        if daemon
        else (),
        daemons=(
            Sleeper(1, 2_100, 340, 2_150, 0.61),
            Sleeper(2, 2_900, 512, None, 0.72),
        )
        if daemon
        else (),
    )


def _crossing(
    place: PlaceName, packets: int, together: float, theory: Theory | None
) -> Crossing:
    calls = round(packets / together * 1.04)
    return Crossing(place, packets, packets * (MTU + 10), calls, calls, theory)


def _stages(slowness: float) -> tuple[Stages, ...]:
    tx = {"read": 62, "lookup": 9, "split": 41, "send": 130, "write": 0}
    rx = {"receive": 77, "check": 11, "checksum": 48, "merge": 24, "write": 102}
    found = []
    for host in (1, 2):
        for direction, stages in (("tx", tx), ("rx", rx)):
            nanoseconds = {
                name: round(ns * slowness * 3000) for name, ns in stages.items()
            }
            found.append(
                msgspec.convert(
                    {
                        "host": host,
                        "direction": direction,
                        "packets": 3000,
                        "nanoseconds": nanoseconds,
                    },
                    Stages,
                )
            )
    return tuple(found)
