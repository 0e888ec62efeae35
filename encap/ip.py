"""The IP header: check it, and take a hop from it (RFC 791, RFC 1812; RFC 8200).

Of IPv6 only the fixed header is looked at; extension headers are payload.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from flannelette.encap.drop import Drop, Dropped

MIN_HEADER = 20
"""Bytes of an IPv4 header without options."""

IPV6_HEADER = 40
"""Bytes of IPv6's fixed header."""

ICMP = 1
"""Protocol number of ICMP."""

DONT_FRAGMENT = 0x4000
FRAGMENT_OFFSET = 0x1FFF


@dataclass(frozen=True, slots=True)
class Header:
    """What forwarding needs of a checked header. Addresses are integers."""

    length: int
    """Of the header, bytes."""
    total: int
    """Of the packet, bytes; what follows it is padding."""
    ttl: int
    """IPv6: the hop limit."""
    protocol: int
    """IPv6: the next header."""
    fragment: int
    """The flags and the fragment offset, as they stand in the header; 0 for IPv6."""
    source: int
    destination: int
    version: int = 4


def checksum(data: bytes | memoryview) -> int:
    """The Internet checksum of data (RFC 1071): 0 over data that holds its own."""
    if len(data) % 2:
        data = bytes(data) + b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def parse(packet: bytes | memoryview, ipv6: bool = False) -> Header:
    """Check a header (RFC 1812 section 5.2.2; RFC 8200 section 3), of IPv6 only where
    that is allowed.

    Raises Dropped, and nothing else, with the first reason that holds."""
    if len(packet) < MIN_HEADER:
        raise Dropped(Drop.SHORT)
    if ipv6 and packet[0] >> 4 == 6:
        return _parse6(packet)
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


def _parse6(packet: bytes | memoryview) -> Header:
    if len(packet) < IPV6_HEADER:
        raise Dropped(Drop.SHORT)
    payload, protocol, ttl = struct.unpack("!HBB", packet[4:8])
    if IPV6_HEADER + payload > len(packet):
        raise Dropped(Drop.BAD_LENGTH)
    return Header(
        IPV6_HEADER,
        IPV6_HEADER + payload,
        ttl,
        protocol,
        0,
        int.from_bytes(packet[8:24], "big"),
        int.from_bytes(packet[24:40], "big"),
        version=6,
    )


def take_hop(packet: bytes, header: Header) -> bytes:
    """The packet with one hop less, without padding.

    Raises Dropped when there is none to take: TTL 0 and 1 both end here (U11)."""
    if header.ttl <= 1:
        raise Dropped(Drop.TTL_EXPIRED)
    changed = bytearray(packet[: header.length])
    if header.version == 6:
        changed[7] -= 1
        return bytes(changed) + packet[header.length : header.total]
    changed[8] -= 1
    changed[10:12] = b"\0\0"
    changed[10:12] = checksum(bytes(changed)).to_bytes(2, "big")
    return bytes(changed) + packet[header.length : header.total]
