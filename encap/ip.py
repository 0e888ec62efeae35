"""The IPv4 header: check it, and take a hop from it (RFC 791, RFC 1812)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from flannelette.encap.drop import Drop, Dropped

MIN_HEADER = 20
"""Bytes of an IPv4 header without options."""

ICMP = 1
"""Protocol number of ICMP."""

DONT_FRAGMENT = 0x4000
FRAGMENT_OFFSET = 0x1FFF


@dataclass(frozen=True, slots=True)
class Header:
    """What forwarding needs of a checked IPv4 header. Addresses are integers."""

    length: int
    """Of the header, bytes."""
    total: int
    """Of the packet, bytes; what follows it is padding."""
    ttl: int
    protocol: int
    fragment: int
    """The flags and the fragment offset, as they stand in the header."""
    source: int
    destination: int


def checksum(data: bytes | memoryview) -> int:
    """The Internet checksum of data (RFC 1071): 0 over data that holds its own."""
    if len(data) % 2:
        data = bytes(data) + b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def parse(packet: bytes | memoryview) -> Header:
    """Check an IPv4 header (RFC 1812 section 5.2.2).

    Raises Dropped, and nothing else, with the first reason that holds."""
    if len(packet) < MIN_HEADER:
        raise Dropped(Drop.SHORT)
    first, _, total, _, fragment, ttl, protocol, _, source, destination = struct.unpack(
        "!BBHHHBBHII", packet[:MIN_HEADER]
    )
    length = (first & 0xF) * 4
    if first >> 4 != 4:
        raise Dropped(Drop.BAD_VERSION)
    if not MIN_HEADER <= length <= len(packet):
        raise Dropped(Drop.BAD_HEADER)
    if not length <= total <= len(packet):
        raise Dropped(Drop.BAD_LENGTH)
    if checksum(packet[:length]):
        raise Dropped(Drop.BAD_CHECKSUM)
    return Header(length, total, ttl, protocol, fragment, source, destination)


def take_hop(packet: bytes, header: Header) -> bytes:
    """The packet with one hop less, without padding.

    Raises Dropped when there is none to take: TTL 0 and 1 both end here (U11)."""
    if header.ttl <= 1:
        raise Dropped(Drop.TTL_EXPIRED)
    changed = bytearray(packet[: header.length])
    changed[8] -= 1
    changed[10:12] = b"\0\0"
    changed[10:12] = checksum(bytes(changed)).to_bytes(2, "big")
    return bytes(changed) + packet[header.length : header.total]
