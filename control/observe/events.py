"""Records of events, as the fast path writes them (native/src/api.h: struct fp_event).

An event is what happened to a packet, told to an observer:

tx: READ -> ROUTED -> WRAPPED -> SENT (one for each datagram)
rx: RECEIVED (one for each datagram) -> CHECKED -> UNWRAPPED -> MERGED or not -> WRITTEN

and DROPPED anywhere. Packets have numbers, which go round, in each direction of each
queue: a frame read and a datagram received take as many as the packets they become.
READ, SENT, RECEIVED, WRITTEN and DROPPED carry bytes.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from flannelette.control.errors import HostError
from flannelette.dataplane.forwarder import EVENT, Direction, Drop, EventKind

_KINDS, _DIRECTIONS, _DROPS = tuple(EventKind), tuple(Direction), tuple(Drop)
"""By value, which is quicker than the classes themselves."""
_ALIGN = 8
"""Records begin at multiples of so many bytes."""


class BadEvents(HostError):
    """These bytes are no records: another version's daemon wrote them."""


class Event(NamedTuple):
    """What happened to a packet."""

    time: int
    """Nanoseconds since 1970."""
    queue: int
    direction: Direction
    kind: EventKind
    number: int
    """Of the first packet that it is about."""
    packets: int
    """How many, from that one on."""
    into: int
    """MERGED: the number of the first packet of the superpacket that grew."""
    drop: Drop | None
    """Why; of DROPPED only."""
    address: int
    """The peer's; of no meaning if version is 0."""
    port: int
    version: int
    """Of IP, the address's: 4 or 6; 0: no peer is known."""
    length: int
    """Bytes, of the packet or the datagram."""
    outer: bool
    """The bytes are a datagram's payload; else they are a packet."""
    data: bytes
    """The first of them."""

    @property
    def peer(self) -> IPv4Address | IPv6Address | None:
        if not self.version:
            return None
        return (IPv4Address if self.version == 4 else IPv6Address)(self.address)


def decode(records: bytes, queue: int = 0) -> list[Event]:
    """The events in whole records, in their order. Raises BadEvents."""
    events: list[Event] = []
    offset = 0
    while offset < len(records):
        event, size = _decode_one(records, offset, queue)
        events.append(event)
        offset += size
    return events


def _decode_one(records: bytes, offset: int, queue: int) -> tuple[Event, int]:
    """The event whose record begins there, and the record's bytes."""
    try:
        head = EVENT.unpack_from(records, offset)
        time, high, low, size, number, packets, into, length, captured = head[:9]
        port, version, kind, drop, direction, outer = head[9:]
        begin = offset + EVENT.size
        event = Event(
            time=time,
            queue=queue,
            direction=_DIRECTIONS[direction],
            kind=_KINDS[kind],
            number=number,
            packets=packets,
            into=into,
            drop=_DROPS[drop] if kind == EventKind.DROPPED else None,
            address=high << 64 | low,
            port=port,
            version=version,
            length=length,
            outer=bool(outer),
            data=records[begin : begin + captured],
        )
    except (struct.error, IndexError) as error:
        raise BadEvents(f"an event is not understood: {error}") from None
    used = EVENT.size + captured
    if size != used + -used % _ALIGN or size > len(records) - offset:
        raise BadEvents(f"an event of {captured} bytes cannot have a record of {size}")
    if captured > length or outer > 1:
        raise BadEvents("an event has more bytes than its packet")
    if version not in (0, 4, 6) or (version == 4 and event.address >> 32):
        raise BadEvents("an event's peer has no address of IP")
    return event, size
