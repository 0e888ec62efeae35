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

HOP_BY_HOP = 0
"""IPv6's next header: options for every hop, among them the jumbogram's length."""

DONT_FRAGMENT = 0x4000
MORE_FRAGMENTS = 0x2000
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
    # Whose true length is in an option (RFC 2675): no tunnel of ours carries those.
    jumbogram = payload == 0 and protocol == HOP_BY_HOP
    if jumbogram or IPV6_HEADER + payload > len(packet):
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


def claims(packet: bytes) -> tuple[int, int]:
    """The version, and the length in bytes, that the first MIN_HEADER bytes say their
    packet has: unchecked, so whatever is not IPv6 is taken for IPv4."""
    if packet[0] >> 4 == 6:
        return 6, IPV6_HEADER + int.from_bytes(packet[4:6], "big")
    return 4, int.from_bytes(packet[2:4], "big")


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


def with_length(packet: bytes, header: Header, index: int) -> bytes:
    """A packet that begins with that header, which is now told its length; it is the
    index-th of those that were one, so the IPv4 identification grows by that."""
    changed = bytearray(packet)
    if header.version == 6:
        changed[4:6] = (len(packet) - IPV6_HEADER).to_bytes(2, "big")
        return bytes(changed)
    identification = int.from_bytes(packet[4:6], "big") + index
    changed[2:4] = len(packet).to_bytes(2, "big")
    changed[4:6] = (identification & 0xFFFF).to_bytes(2, "big")
    changed[10:12] = b"\0\0"
    changed[10:12] = checksum(bytes(changed[: header.length])).to_bytes(2, "big")
    return bytes(changed)


def pseudo_header(
    version: int, source: int, destination: int, protocol: int, length: int
) -> bytes:
    """What checksums above IP cover besides their own bytes, which are `length` (RFC
    9293 section 3.1, RFC 768; RFC 8200 section 8.1). IPv4 has the last two numbers in
    fewer bytes, for the same sum."""
    size = 16 if version == 6 else 4
    addresses = source.to_bytes(size, "big") + destination.to_bytes(size, "big")
    return addresses + struct.pack("!II", length, protocol)
