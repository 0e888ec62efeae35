"""The journey of one packet on each rung, in words and numbers ready to show.

What the picture (page/journey.js) and the tables beside it say is worked out here, so
that the page's script only places texts. A gap is None in numbers and GAP in texts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from flannelette.benchmarks import tables
from flannelette.benchmarks.labdocument import (
    PLACES,
    Counts,
    Crossing,
    PlaceName,
    Rung,
    StageName,
)
from flannelette.benchmarks.measures import TCP_HEADERS
from flannelette.benchmarks.results import METRICS, Results

GAP = "\N{EN DASH}"
"""What is not known."""
_WORDS = {
    "us": "µs",
    "kpkt/s": "1,000 packets/s",
    "/pkt": "a packet",
    "B/B": "B a byte",
}
UNITS = {metric.key: _WORDS.get(metric.unit, metric.unit) for metric in METRICS}
"""Of the ladder's metrics, in full words."""


class About(NamedTuple):
    """A place, in words."""

    title: str
    happens: str


PLACES_ABOUT: Mapping[PlaceName, About] = {
    "app_send": About("app → kernel", "The app's send() copies bytes into a socket."),
    "tun_read": About("kernel → daemon", "read() on the TUN copies a frame out."),
    "wire_send": About(
        "daemon → kernel", "sendmmsg() or sendto() copies the datagrams in."
    ),
    "wire_receive": About(
        "kernel → daemon", "recvmmsg() or recvfrom() copies the datagrams out."
    ),
    "tun_write": About("daemon → kernel", "write() on the TUN copies a frame in."),
    "app_receive": About("kernel → app", "The app's recv() copies bytes out."),
}
STAGE_AT: Mapping[PlaceName, tuple[int, str, StageName]] = {
    "tun_read": (1, "tx", "read"),
    "wire_send": (1, "tx", "send"),
    "wire_receive": (2, "rx", "receive"),
    "tun_write": (2, "rx", "write"),
}
"""Whose time a crossing is: the host, its direction, the stage."""
MOST_DRAWN = 64
"""Packets of a bundle in the picture."""
BETWEEN: Mapping[int, tuple[str, tuple[StageName, ...]]] = {
    1: ("tx", ("lookup", "split")),
    2: ("rx", ("check", "checksum", "merge")),
}
"""What a daemon does itself with the flow's packets, by host."""


@dataclass(frozen=True, slots=True)
class Total:
    """One number about a whole journey."""

    title: str
    about: str
    measured: float | None
    theory: float | None


def number(value: float | None, unit: str = "") -> str:
    """For people; GAP for None, and no digits for 0."""
    if value is None:
        return GAP
    text = tables.number(value) if value else "0"
    return f"{text}\N{NO-BREAK SPACE}{unit}" if unit else text


def time(nanoseconds: float | None) -> str:
    """In the unit that suits."""
    if nanoseconds is None:
        return GAP
    if nanoseconds >= 1000:
        return number(nanoseconds / 1000, "µs")
    return f"{nanoseconds:.{0 if nanoseconds >= 10 else 1}f}\N{NO-BREAK SPACE}ns"


def nanoseconds(
    rung: Rung, host: int, direction: str, stage: StageName
) -> float | None:
    """Per packet."""
    for stages in rung.stages or ():
        if (stages.host, stages.direction) == (host, direction):
            return stages.per_packet().get(stage)
    return None


def together(crossing: Crossing) -> float | None:
    """How many packets pass in one call on average; None if not counted."""
    return crossing.packets / crossing.calls if crossing.calls else None


def in_unit(crossing: Crossing) -> float | None:
    """How many share a frame or a message on average; None if not counted."""
    return crossing.packets / crossing.units if crossing.units else None


def in_theory(crossing: Crossing) -> float | None:
    """The same, calculated."""
    theory = crossing.theory
    return 1 / theory.calls if theory and theory.calls else None


def totals(rung: Rung) -> list[Total]:
    """What a journey costs on that rung, acknowledgements and all; empty if nothing
    was counted."""
    counts = rung.counts
    return [] if counts is None else [_copies(counts), *_daemons(rung, counts)]


def processor_time(rung: Rung, ladder: Results, wire: str) -> float | None:
    """Nanoseconds of processor time that one packet costs the whole machine."""
    figure = ladder.figure(wire, rung.name, "machine_gb")
    if figure is None:
        return None
    return figure.median * (rung.mtu - TCP_HEADERS[4])  # seconds per 10^9 bytes


def picture(rung: Rung, processor: float | None) -> dict[str, object]:
    """What page/journey.js draws."""
    daemon = rung.flags is not None
    there = {c.place: c for c in rung.counts.there} if rung.counts else {}
    places = PLACES if daemon else (PLACES[0], PLACES[-1])
    crossings = [
        {
            "place": place,
            "number": order,
            "title": PLACES_ABOUT[place].title,
            **_bundle(there.get(place)),
            "lines": _lines(rung, place, there.get(place)),
        }
        for order, place in enumerate(places, 1)
    ]
    return {
        "name": rung.name,
        "daemon": daemon,
        "device": {"none": None, "vxlan": "flannel.1"}.get(rung.name, "flannel0"),
        "crossings": crossings,
        "work": {str(host): _work(rung, host) for host in BETWEEN},
        "nanoseconds": processor,
        "processor": time(processor),
    }


def _copies(counts: Counts) -> Total:
    theory = _sum(c.theory.bytes if c.theory else None for c in counts.there)
    return Total(
        "copies",
        "bytes copied between kernel and programs for each byte delivered,"
        " acknowledgements included",
        _over(_sum(c.bytes for c in (*counts.there, *counts.back)), counts.payload),
        None if theory is None else _over(theory * counts.packets, counts.payload),
    )


def _daemons(rung: Rung, counts: Counts) -> Iterator[Total]:
    there = [c for c in counts.there if c.place in STAGE_AT]
    calls = _sum(c.calls for c in (*there, *counts.back))
    slept = _sum(sleeper.wake_ups for sleeper in counts.daemons)
    unknown = rung.flags is not None and not counts.daemons
    yield Total(
        "system calls",
        "of both daemons on TUN and socket, for each packet, acknowledgements included",
        _over(calls, counts.packets),
        _sum(c.theory.calls if c.theory else None for c in there),
    )
    yield Total(
        "wake-ups",
        "of daemons that slept, for each packet",
        None if unknown else _over(slept, counts.packets),
        None,
    )


def _sum(counts: Iterable[float | None]) -> float | None:
    """None if one is not known."""
    total = 0.0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def _over(count: float | None, per: float) -> float | None:
    return None if count is None or not per else count / per


def _bundle(crossing: Crossing | None) -> dict[str, object]:
    """How many packets to draw, and whether that was counted."""
    found = crossing and (together(crossing) or in_theory(crossing))
    return {
        "packets": found and max(1, min(MOST_DRAWN, math.floor(found + 0.5))),
        "counted": crossing is not None and together(crossing) is not None,
    }


def _lines(rung: Rung, place: PlaceName, crossing: Crossing | None) -> list[str]:
    """What stands beside a crossing: bytes copied, calls, time."""
    if crossing is None:
        return ["not counted"]
    size = crossing.per_packet(crossing.bytes)
    lines = [f"{number(size, 'B')} copied" if size else "bytes: not counted"]
    lines.append(_calls(crossing))
    if place in STAGE_AT:
        spent = nanoseconds(rung, *STAGE_AT[place])
        lines.append(time(spent) if spent is not None else "time: not taken")
    elif together(crossing) is None and in_theory(crossing):
        lines.append("(in theory)")
    return lines


def _calls(crossing: Crossing) -> str:
    """Which way round the numbers are easier to grasp."""
    found = together(crossing) or in_theory(crossing)
    if found is None:
        return "calls: not counted"
    if found >= 1.5:
        return f"{number(found)} packets a call"
    each = 1 / found
    return "a call a packet" if each < 1.005 else f"{number(each)} calls a packet"


def _work(rung: Rung, host: int) -> list[str]:
    direction, stages = BETWEEN[host]
    spent = ((name, nanoseconds(rung, host, direction, name)) for name in stages)
    return [f"{name} {time(ns)}" for name, ns in spent if ns is not None]
