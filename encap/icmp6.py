"""ICMPv6 errors, as the overlay's hop sends them (RFC 4443).

Of IPv6 flannel's udp backend knows nothing, so there is no habit of its to keep: these
are what any router sends, and to echo requests, too.
"""

from __future__ import annotations

import struct

from flannelette.encap import ip

ICMPV6 = 58
"""Next header number of ICMPv6."""

UNREACHABLE = 1
"""Type; code 0 is "no route to destination" (section 3.1)."""
TOO_BIG = 2
"""Type (section 3.2)."""

MAX_LENGTH = 1280
"""Bytes of the longest answer: what every link of IPv6 carries (section 3.1)."""

_HEADER = 8
_HOPS = 64
_INFORMATIONAL = 128
"""Types below are errors (section 2.1)."""
_REDIRECT = 137
_MULTICAST = 0xFF
_UNSPECIFIED, _LOOPBACK = 0, 1


def answerable(packet: bytes, header: ip.Header, kind: int) -> bool:
    """May this packet, whose checked header is given, be answered with that type of
    error?

    Not an error or redirect, not what came from anything but a single host; of what
    goes to many, only its size is complained of (section 2.4 (e))."""
    if header.protocol == ICMPV6 and _is_error(packet, header):
        return False
    if header.destination >> 120 == _MULTICAST and kind != TOO_BIG:
        return False
    source = header.source
    return source not in (_UNSPECIFIED, _LOOPBACK) and source >> 120 != _MULTICAST


def _is_error(packet: bytes, header: ip.Header) -> bool:
    """Is it an error, or a redirect? If it is too short to tell, better so."""
    if header.total == header.length:
        return True
    kind = packet[header.length]
    return kind < _INFORMATIONAL or kind == _REDIRECT


def error(
    offender: bytes, header: ip.Header, source: int, kind: int, mtu: int = 0
) -> bytes:
    """The whole IPv6 packet that answers `offender`, whose checked header is given, and
    quotes as much of it as fits.

    `source` is ours, as an integer; `mtu`, in bytes, goes with TOO_BIG."""
    room = MAX_LENGTH - ip.IPV6_HEADER - _HEADER
    body = struct.pack("!BBHI", kind, 0, 0, mtu) + offender[: min(room, header.total)]
    pseudo = ip.pseudo_header(6, source, header.source, ICMPV6, len(body))
    body = body[:2] + ip.checksum(pseudo + body).to_bytes(2, "big") + body[4:]
    ends = source.to_bytes(16, "big") + header.source.to_bytes(16, "big")
    return struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, _HOPS) + ends + body
