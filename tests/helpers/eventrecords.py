"""Records of events as the fast path writes them, and what a packet leaves of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from flannelette.control.observe.events import Event
from flannelette.dataplane.forwarder import Direction, Drop, EventKind

PEER = ip_address("192.0.2.2")
PORT = 8285
START = 1_700_000_000_000_000_000
"""Nanoseconds since 1970: 22:13:20 UTC."""


def event(kind: EventKind, number: int = 0, **fields: Any) -> Event:
    """An event of one packet, without a peer; `after` is its time in microseconds."""
    if "peer" in fields:
        peer = fields.pop("peer")
        fields |= {"address": int(peer), "version": peer.version, "port": PORT}
    data = fields.get("data", b"")
    rx = EventKind.RECEIVED <= kind <= EventKind.WRITTEN
    usual = {
        "time": START + round(1000 * fields.pop("after", 0)),
        "queue": 0,
        "direction": Direction.RX if rx else Direction.TX,
        "kind": kind,
        "number": number,
        "packets": 1,
        "into": 0,
        "drop": Drop.NO_ROUTE if kind == EventKind.DROPPED else None,
        "address": 0,
        "port": 0,
        "version": 0,
        "length": len(data),
        "outer": False,
        "data": data,
    }
    return Event(**{**usual, **fields})


def encode(events: Iterable[Event]) -> bytes:
    """Their records; written by struct fp_event, not by what decodes them."""
    return b"".join(map(_record, events))


def _record(event: Event) -> bytes:
    used = 56 + len(event.data)
    padding = bytes(-used % 8)
    return b"".join(
        [
            struct.pack("=Q", event.time),
            struct.pack("=QQ", event.address >> 64, event.address & (1 << 64) - 1),
            struct.pack("=II", used + len(padding), event.number),
            struct.pack("=II", event.packets, event.into),
            struct.pack("=II", event.length, len(event.data)),
            struct.pack("=HBB", event.port, event.version, event.kind),
            struct.pack("=BBBB", event.drop or 0, event.direction, event.outer, 0),
            event.data,
            padding,
        ]
    )


def tx(packet: bytes, number: int = 0, after: float = 0.0) -> list[Event]:
    """All of a packet that goes out whole, in datagrams of flannel's udp backend."""
    kinds = EventKind
    return [
        event(kinds.READ, number, after=after, data=packet),
        event(kinds.ROUTED, number, after=after + 1.5, peer=PEER),
        event(kinds.WRAPPED, number, after=after + 2, peer=PEER),
        event(kinds.SENT, number, after=after + 12, peer=PEER, outer=True, data=packet),
    ]


def rx(packet: bytes, number: int = 0, after: float = 0.0) -> list[Event]:
    """All of a datagram whose packet is written as it came."""
    kinds = EventKind
    return [
        event(kinds.RECEIVED, number, after=after, peer=PEER, outer=True, data=packet),
        event(kinds.CHECKED, number, after=after + 0.25, peer=PEER),
        event(kinds.UNWRAPPED, number, after=after + 0.5),
        event(kinds.WRITTEN, number, after=after + 9.75, data=packet),
    ]
