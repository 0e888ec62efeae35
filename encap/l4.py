"""TCP and UDP behind the IP header: flows, partial checksums, superpackets.

A kernel that sends over a virtual link leaves two things to its hardware, and there is
none. The checksum is partial: its field holds the sum of the pseudo-header alone,
folded, not complemented, so that adding up the rest is all there is to do. And a
superpacket, up to 64 KiB of one TCP connection or of UDP datagrams of one size behind
one set of headers, is not cut. VXLAN devices hand both over inside their datagrams.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

from flannelette.encap import ip

TCP, UDP = 6, 17

MAX_UDP_SEGMENTS = 128
"""UDP datagrams that one superpacket may stand for (Linux: UDP_MAX_SEGMENTS)."""

_FIELD = {TCP: 16, UDP: 6}
"""Where the checksum is, bytes from the L4 header."""
_LEAST = {TCP: 20, UDP: 8}
"""Bytes of the shortest header."""
_MORE_OR_OFFSET = ip.MORE_FRAGMENTS | ip.FRAGMENT_OFFSET
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
_GOLDEN = 0x9E3779B1
"""2^32 divided by the golden ratio: it spreads neighbours far (Knuth, TAOCP 6.4)."""


def is_plain(header: ip.Header) -> bool:
    """TCP or UDP, directly behind the IP header, and no fragment."""
    return header.protocol in _FIELD and not header.fragment & _MORE_OR_OFFSET


def flow(packet: bytes, header: ip.Header, flows: int) -> int:
    """Which of so many flows a packet belongs to: equal for all packets of a connection
    or, where ports cannot be seen in all of them, of two hosts and a protocol."""
    state = 0
    addresses = header.source ^ header.destination
    while addresses:
        state ^= addresses & 0xFFFFFFFF
        addresses >>= 32
    if is_plain(header) and header.total - header.length >= 4:
        state ^= int.from_bytes(packet[header.length : header.length + 4], "big")
    state ^= header.protocol
    return ((state * _GOLDEN & 0xFFFFFFFF) >> 16) % flows


def has_checksum(header: ip.Header) -> bool:
    """Is there a whole TCP or UDP header, whose checksum is all about this packet?"""
    return is_plain(header) and header.total - header.length >= _LEAST[header.protocol]


def is_partial(packet: bytes, header: ip.Header) -> bool:
    """Does the checksum's field hold the pseudo-header's sum alone?

    That may also be what it should: then finish() changes nothing. And one corrupt
    packet in 65,536 looks so."""
    if not has_checksum(header):
        return False
    field = _field(header)
    partial = ~ip.checksum(_pseudo(header)) & 0xFFFF
    return packet[field : field + 2] == partial.to_bytes(2, "big")


def is_sound(packet: bytes, header: ip.Header) -> bool:
    """Is the checksum right? It has one."""
    return ip.checksum(_pseudo(header) + _body(packet, header)) == 0


def finish(packet: bytes, header: ip.Header) -> bytes:
    """The packet with the TCP or UDP checksum that it should have."""
    field = _field(header)
    packet = packet[:field] + b"\0\0" + packet[field + 2 :]
    value = ip.checksum(_pseudo(header) + _body(packet, header))
    if value == 0 and header.protocol == UDP:
        value = 0xFFFF  # 0 would say that there is none (RFC 768)
    return packet[:field] + value.to_bytes(2, "big") + packet[field + 2 :]


def headers(packet: bytes, header: ip.Header) -> int:
    """Bytes of the IP and L4 headers together, or 0 if the L4 header's or packet's
    length is a lie. It has a checksum."""
    length = header.total - header.length
    if header.protocol == UDP:
        told = int.from_bytes(packet[header.length + 4 : header.length + 6], "big")
        return header.length + _LEAST[UDP] if told == length else 0
    offset = (packet[header.length + 12] >> 4) * 4
    return header.length + offset if _LEAST[TCP] <= offset <= length else 0


def cut(packet: bytes, header: ip.Header, segment: int) -> Iterator[bytes]:
    """The packets that a superpacket stands for, `segment` bytes of payload in each but
    for the last. It has sound headers(), and payload."""
    start = headers(packet, header)
    payload = packet[start : header.total]
    for index, offset in enumerate(range(0, len(payload), segment)):
        piece = bytearray(packet[:start] + payload[offset : offset + segment])
        if header.protocol == UDP:
            length = len(piece) - header.length
            piece[header.length + 4 : header.length + 6] = length.to_bytes(2, "big")
        else:
            last = offset + segment >= len(payload)
            _be_one_of_many(piece, header.length, offset, index == 0, last)
        made = ip.with_length(bytes(piece), header, index)
        yield finish(made, replace(header, total=len(made)))


def _be_one_of_many(
    packet: bytearray, at: int, offset: int, first: bool, last: bool
) -> None:
    """A TCP packet's sequence number, and the flags that go with either end of the
    payload (RFC 3168 section 6.1.2 of CWR)."""
    (sequence,) = struct.unpack_from("!I", packet, at + 4)
    struct.pack_into("!I", packet, at + 4, (sequence + offset) & 0xFFFFFFFF)
    if not first:
        packet[at + 13] &= ~_CWR & 0xFF
    if not last:
        packet[at + 13] &= ~(_FIN | _PSH) & 0xFF


def _field(header: ip.Header) -> int:
    return header.length + _FIELD[header.protocol]


def _body(packet: bytes, header: ip.Header) -> bytes:
    return packet[header.length : header.total]


def _pseudo(header: ip.Header) -> bytes:
    length = header.total - header.length
    return ip.pseudo_header(
        header.version, header.source, header.destination, header.protocol, length
    )
