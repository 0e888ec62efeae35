"""pcapng files (draft-ietf-opsawg-pcapng), as bytes: the few blocks that capture needs.

Of our own, since scapy's writer has microseconds only, begins with an interface that
nobody asked for, and has no options for what we know: which packets are the same one,
which queue it took, and how many were lost.

Little-endian. A block is: type, length, body, options, length again; each padded to 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum

LINKTYPE_RAW = 101
"""Packets that begin with their IP header, of IPv4 or IPv6."""

_MAGIC = 0x1A2B3C4D
_SECTION, _INTERFACE, _PACKET, _STATISTICS = 0x0A0D0D0A, 1, 6, 5
_ANY_LENGTH = (1 << 64) - 1
_NANOSECONDS = 9
_END, _COMMENT = 0, 1
_PACKET_HEAD = struct.Struct("<IIIIIII")
_PACKET_OPTIONS = struct.Struct("<HHIHHQHHI")
"""Flags, identity and queue. There are many packets: their blocks are made by hand."""
_PACKET_TAIL = struct.Struct("<HHI")


class Flow(IntEnum):
    """Where a packet goes, as the host sees it (epb_flags)."""

    IN = 1
    OUT = 2


def section(application: str) -> bytes:
    """The file's beginning."""
    body = struct.pack("<IHHQ", _MAGIC, 1, 0, _ANY_LENGTH)
    return _block(_SECTION, body, [(4, application.encode())])


def interface(name: str, description: str, snap: int, expression: str) -> bytes:
    """An interface of raw IP packets, whose times are nanoseconds. They are numbered
    from 0 on in the order in which they come. `expression` is the capture's filter."""
    options = [
        (2, name.encode()),
        (3, description.encode()),
        (9, bytes([_NANOSECONDS])),
    ]
    if expression:
        options.append((11, b"\0" + expression.encode(errors="replace")))
    return _block(_INTERFACE, struct.pack("<HHI", LINKTYPE_RAW, 0, snap), options)


def packet(
    interface: int,
    time: int,
    data: bytes,
    length: int,
    flow: Flow,
    queue: int,
    identity: int,
    comment: str = "",
) -> bytes:
    """A packet of `length` bytes that begins with `data`, at `time` in nanoseconds
    since 1970. What has the same identity, 64 bits, is the same packet."""
    options = _PACKET_OPTIONS.pack(2, 4, flow, 5, 8, identity, 6, 4, queue)
    if comment:
        options += _options([(_COMMENT, comment.encode())])
    total = _PACKET_HEAD.size + len(data) + -len(data) % 4 + len(options) + 8
    head = _PACKET_HEAD.pack(
        _PACKET,
        total,
        interface,
        time >> 32,
        time & 0xFFFFFFFF,
        len(data),
        length,
    )
    tail = _PACKET_TAIL.pack(_END, 0, total)
    return b"".join((head, _padded(data), options, tail))


def statistics(interface: int, time: int, lost: int, comment: str) -> bytes:
    """How many packets of an interface were lost, up to that time."""
    body = struct.pack("<III", interface, time >> 32, time & 0xFFFFFFFF)
    options = [(5, struct.pack("<Q", lost)), (_COMMENT, comment.encode())]
    return _block(_STATISTICS, body, options)


def _block(kind: int, body: bytes, options: Iterable[tuple[int, bytes]]) -> bytes:
    encoded = _options([*options, (_END, b"")])
    length = struct.pack("<I", 12 + len(body) + len(encoded))
    return struct.pack("<I", kind) + length + body + encoded + length


def _options(options: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(
        struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options
    )


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
