"""Packets followed through their events: which events are of one packet, and its end.

tx: a frame is read with number n, and becomes packets (WRAPPED tells how many) that
    have the numbers from n on; each is sent or dropped, and then the frame has ended.
    Dropped before that, it ends at once.
rx: so does a datagram, whose packet may be a superpacket (UNWRAPPED tells of how many
    packets): it is written as one frame, or packet by packet. Or it is dropped, or
    merged into another one's frame; then it ends with that one, which all others in
    the frame name.

Pure: events come in the order of their time, followed packets go out in the order in
which they were first seen. Events may be missing, since what finds no room is lost, and
a filter may be true of some of a frame's packets only. So a packet may begin with any
event, and one of which nothing was heard for PATIENCE, by the events' own clock, is
given up: as sent or written if some of it was, and else as unfinished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from flannelette.control.observe.events import Event
from flannelette.dataplane.forwarder import Direction, EventKind

PATIENCE = 1_000_000_000
"""Nanoseconds."""
_MOST_PACKETS = 1 << 16
"""That one is believed to become: it has no more bytes than that."""

Key = tuple[int, Direction, int]
"""Queue, direction, number."""


class Verdict(StrEnum):
    """How it ended."""

    SENT = "sent"
    """All that is known of."""
    WRITTEN = "written"
    MERGED = "merged"
    """Into a packet that is not followed, whose end is not known."""
    DROPPED = "dropped"
    """All of it, or some of its packets."""
    UNFINISHED = "unfinished"
    """The rest was lost, or is still to come."""


@dataclass(slots=True)
class Followed:
    """A frame on its way out, or a datagram on its way in."""

    ordinal: int
    """From 1, in the order in which packets were first seen."""
    queue: int
    direction: Direction
    number: int
    events: list[Event] = field(default_factory=list)
    packets: int = 1
    """That it becomes."""
    ended: int = 0
    """Of them, sent, written or dropped."""
    into: Followed | None = None
    """rx: the first packet of the frame that it was merged into."""
    merged: list[Followed] = field(default_factory=list)
    """rx: those that were merged into this one's frame."""
    verdict: Verdict | None = None
    """None: it has not ended."""


class Follower:
    """Makes followed packets of events: the first `count` of them; 0: all."""

    def __init__(self, count: int = 0) -> None:
        self._count = count
        self._seen = 0
        self._open: dict[Key, Followed] = {}
        self._waiting: deque[Followed] = deque()
        """Those not given out yet, by ordinal."""

    @property
    def done(self) -> bool:
        """Have all wanted packets been given out?"""
        return 0 < self._count == self._seen and not self._waiting

    def feed(self, events: Iterable[Event], now: int = 0) -> Iterator[Followed]:
        """What has ended with these events, in order. `now` is used without events: it
        is nanoseconds since 1970, by the same clock as theirs."""
        for event in events:
            now = event.time
            followed = self._followed(event)
            if followed is not None:
                followed.events.append(event)
                self._take(followed, event)
        self._give_up(now - PATIENCE)
        yield from self._ended()

    def finish(self) -> Iterator[Followed]:
        """All others, since there will be no more events."""
        self._give_up(1 << 64)
        yield from self._ended()

    def _ended(self) -> Iterator[Followed]:
        while self._waiting and self._waiting[0].verdict is not None:
            yield self._waiting.popleft()

    def _followed(self, event: Event) -> Followed | None:
        """Whose event it is; None: nobody's who is followed."""
        key = (event.queue, event.direction, event.number)
        known = self._open.get(key)
        begins = event.kind in (EventKind.READ, EventKind.RECEIVED)
        if known is not None and not begins:
            return known
        if known is not None:  # numbers began again, with another TUN
            self._end(known)
        if self._seen == self._count > 0:
            return None
        self._seen += 1
        followed = Followed(self._seen, *key)
        self._open[key] = followed
        self._waiting.append(followed)
        return followed

    def _take(self, followed: Followed, event: Event) -> None:
        match event.kind:
            case EventKind.WRAPPED | EventKind.UNWRAPPED:
                followed.packets = min(event.packets, _MOST_PACKETS)
                for number in range(followed.packets):
                    self._open[self._key(followed, number)] = followed
            case EventKind.MERGED:
                self._merge(followed, event.into)
            case EventKind.SENT | EventKind.WRITTEN | EventKind.DROPPED:
                self._end_some(followed, event)

    def _merge(self, followed: Followed, number: int) -> None:
        """rx: into the frame that begins with that packet."""
        first = self._open.get((followed.queue, followed.direction, number))
        if first is None or first is followed:
            self._end(followed)
            return
        followed.into = first
        first.merged.append(followed)

    def _end_some(self, followed: Followed, event: Event) -> None:
        """Some of its packets were sent, written or dropped. With the last of them it
        ends, and what was merged into its frame; but of a frame that the kernel
        refuses, packets are written one by one."""
        followed.ended += event.packets
        if followed.ended < followed.packets:
            return
        self._end(followed)
        for each in followed.merged if event.packets > 1 else ():
            each.events.append(event)
            self._end(each)

    def _give_up(self, before: int) -> None:
        """Those of which nothing was heard since then."""
        for followed in self._waiting:
            if followed.verdict is None and followed.events[-1].time < before:
                self._end(followed)

    def _end(self, followed: Followed) -> None:
        followed.verdict = _verdict(followed)
        for number in range(followed.packets):
            key = self._key(followed, number)
            if self._open.get(key) is followed:
                del self._open[key]

    def _key(self, followed: Followed, number: int) -> Key:
        number = (followed.number + number) & 0xFFFFFFFF
        return followed.queue, followed.direction, number


def _verdict(followed: Followed) -> Verdict:
    """By what is known of it."""
    kinds = {event.kind for event in followed.events}
    if EventKind.DROPPED in kinds:
        return Verdict.DROPPED
    if EventKind.SENT in kinds:
        return Verdict.SENT
    if EventKind.WRITTEN in kinds:
        return Verdict.WRITTEN
    alone = EventKind.MERGED in kinds and followed.into is None
    return Verdict.MERGED if alone else Verdict.UNFINISHED
