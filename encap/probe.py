"""Probes: does a node of ours listen at that port, and which sizes come through?

    0            8            16     17      18       20       28
    | 0          | "flprobe1" | kind | flags | length | nonce  | zeros

A request has at least these 28 bytes, and may have any number more, to learn which
sizes the way there carries. A reply has 28 always, so nobody gains by asking in
another's name, and is never answered. `length` and `flags` are a reply's: how many
bytes the request had when it came, and whether it came from a known peer's address.

Whoever does not know probes drops them. As VXLAN they lack the I flag (W10), and as an
IP packet they are of version 0: flanneld's udp proxy takes a hop at byte 8 and leaves
the rest to the TUN, which refuses it (U14).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

BYTES = 28
"""Of a reply, and the least of a request."""
NONCE = 8
"""Bytes that tell whoever asked which of its requests a reply is for."""

_PROBE = struct.Struct("!8x8sBBH8s")
_MAGIC = b"flprobe1"
_KNOWN = 1


class Kind(IntEnum):
    REQUEST = 1
    REPLY = 2


class Probe(NamedTuple):
    kind: Kind
    known: bool
    """Of a reply: the request came from the address of a known peer."""
    length: int
    """Of a reply: bytes of the request."""
    nonce: bytes


class NoProbe(Exception):
    """The datagram is something else."""


def request(nonce: bytes, length: int = BYTES) -> bytes:
    """Ask with so many bytes, from BYTES on."""
    return _PROBE.pack(_MAGIC, Kind.REQUEST, 0, 0, nonce).ljust(length, b"\0")


def reply(nonce: bytes, length: int, known: bool) -> bytes:
    """Answer a request that had so many bytes."""
    return _PROBE.pack(_MAGIC, Kind.REPLY, _KNOWN * known, length, nonce)


def parse(datagram: bytes) -> Probe:
    """What the datagram asks or answers. Raises NoProbe, and nothing else."""
    if len(datagram) < BYTES or any(datagram[:8]):
        raise NoProbe
    magic, kind, flags, length, nonce = _PROBE.unpack(datagram[:BYTES])
    if magic != _MAGIC or kind not in iter(Kind):
        raise NoProbe
    if kind == Kind.REPLY and len(datagram) != BYTES:
        raise NoProbe
    return Probe(Kind(kind), bool(flags & _KNOWN), length, nonce)
