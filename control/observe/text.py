"""A packet that was followed, as text of at most 80 columns, and as a JSON document.

#1 tx 09:59:22.123456 IP / ICMP 10.5.1.2 > 10.5.2.2 echo-request 0 id=3 seq=1
      0.0 us  read       84 bytes from flannel0
      1.5 us  routed     to 192.0.2.2:8285
      2.0 us  wrapped    into 1 datagram
     12.1 us  sent       1 datagram, 84 bytes
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flannelette.control.observe.dissect import summary
from flannelette.control.observe.events import Event
from flannelette.control.observe.following import Followed, Verdict
from flannelette.control.observe.protocol import Own
from flannelette.control.text import plural, wrapped
from flannelette.dataplane.forwarder import Drop, EventKind

_VXLAN = 22
"""Bytes of VXLAN's header and the Ethernet header behind it."""

_LABEL = 25
"""Columns of a step's time and name."""


@dataclass(slots=True)
class Step:
    """Events of one kind, that came one after the other."""

    kind: EventKind
    time: int
    """Of the last of them, nanoseconds since 1970."""
    packets: int
    length: int
    """Bytes, of all of them."""
    drop: Drop | None
    peer: str | None


def steps(followed: Followed) -> list[Step]:
    found: list[Step] = []
    for event in followed.events:
        last = found[-1] if found else None
        if last and (last.kind, last.drop) == (event.kind, event.drop):
            last.time = event.time
            last.packets += event.packets
            last.length += event.length
            continue
        found.append(
            Step(
                event.kind,
                event.time,
                event.packets,
                event.length,
                event.drop,
                _peer(event),
            )
        )
    return found


def _peer(event: Event) -> str | None:
    if event.peer is None:
        return None
    address = f"[{event.peer}]" if event.version == 6 else str(event.peer)
    return f"{address}:{event.port}"


# ---- text ----------------------------------------------------------------------------


def lines(followed: Followed, own: Own) -> Iterator[str]:
    """For a person to read."""
    first = followed.events[0].time
    clock = datetime.fromtimestamp(first // 10**9).strftime("%H:%M:%S")
    head = (
        f"#{followed.ordinal} {followed.direction.name.lower()} "
        f"{clock}.{first // 1000 % 10**6:06} {_summary(followed, own)}"
    )
    yield from wrapped(head, "", 4)
    for step in steps(followed):
        name = "DROPPED" if step.drop is not None else step.kind.name.lower()
        label = f"{_after(step.time, first):9,.1f} us  {name:10} "
        yield from wrapped(_said(step, followed, own), label, _LABEL)
    if followed.verdict == Verdict.UNFINISHED:
        yield " " * 14 + "what came next is not known"
    elif 0 < followed.ended < followed.packets:
        others = plural(followed.packets - followed.ended, "other packet")
        yield " " * 14 + f"of {others} nothing is known"


def _after(time: int, first: int) -> float:
    """Microseconds."""
    return (time - first) / 1000


def _said(step: Step, followed: Followed, own: Own) -> str:
    """What there is to say of a step, besides its name."""
    size = plural(step.length, "byte")
    match step.kind:
        case EventKind.READ:
            queue = f", queue {followed.queue}" if followed.queue else ""
            return f"{size} from {own.device}{queue}"
        case EventKind.ROUTED:
            return f"to {step.peer}"
        case EventKind.WRAPPED:
            return f"into {plural(step.packets, 'datagram')}"
        case EventKind.SENT:
            return f"{plural(step.packets, 'datagram')}, {size}"
        case EventKind.RECEIVED:
            queue = f", queue {followed.queue}" if followed.queue else ""
            return f"{size} from {step.peer}{queue}"
        case EventKind.CHECKED:
            return "its sender may send"
        case EventKind.UNWRAPPED:
            return "its packet is sound"
        case EventKind.MERGED if followed.into is not None:
            return f"into #{followed.into.ordinal}"
        case EventKind.MERGED:
            return "into a packet that is not followed"
        case EventKind.WRITTEN:
            packets = f", {step.packets:,} packets" if step.packets > 1 else ""
            return f"{size} to {own.device}{packets}"
        case EventKind.DROPPED:
            assert step.drop is not None
            packets = f", {step.packets:,} packets" if step.packets > 1 else ""
            return f"{step.drop.label}{packets}"


def _summary(followed: Followed, own: Own) -> str:
    for event in followed.events:
        if event.data:
            return summary(_inner(event, own), "trace")
    return "its bytes are not known"


def _inner(event: Event, own: Own) -> bytes:
    return event.data[_VXLAN:] if event.outer and own.vxlan else event.data


# ---- JSON ----------------------------------------------------------------------------


def document(followed: Followed, own: Own) -> dict[str, Any]:
    """For a program to read: times in seconds since 1970, and `us` since the first."""
    found = steps(followed)
    first = followed.events[0]
    peers = (step.peer for step in found if step.peer is not None)
    drops = (step.drop.label for step in found if step.drop is not None)
    return {
        "packet": followed.ordinal,
        "direction": followed.direction.name.lower(),
        "queue": followed.queue,
        "number": followed.number,
        "time": first.time / 1e9,
        "peer": next(peers, None),
        "summary": _summary(followed, own),
        "stages": [
            {
                "stage": step.kind.name.lower(),
                "us": _after(step.time, first.time),
                "packets": step.packets,
                "bytes": step.length,
                "drop": None if step.drop is None else step.drop.label,
            }
            for step in found
        ],
        "into": followed.into and followed.into.ordinal,
        "verdict": followed.verdict,
        "drop": next(drops, None),
    }
