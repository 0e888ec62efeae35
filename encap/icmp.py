"""ICMP destination unreachable, as the overlay's hop answers it.

The shape is flannel's, so that tests and tools see no difference (U17): a header
without options, TTL 8, the TUN's address as source; the offender's header and up to 8
bytes of its payload are quoted, never more than it holds (U19).
"""

from __future__ import annotations

import struct

from flannelette.encap import ip

NET_UNREACHABLE = 0
FRAGMENTATION_NEEDED = 4

MAX_LENGTH = 20 + 8 + 60 + 8
"""Bytes of the longest answer: both headers, a quoted header with options, 8 more."""

_TYPE = 3
_ERRORS = frozenset({3, 4, 5, 11, 12})
"""Types: unreachable, source quench, redirect, time exceeded, parameter problem."""
_TTL = 8
_QUOTED_PAYLOAD = 8


def answerable(packet: bytes, header: ip.Header, code: int) -> bool:
    """May this packet, whose checked header is given, be answered with that error?

    Not an ICMP error, not a fragment other than the first, not what came from or goes
    to anything but a single host (RFC 1812 section 4.3.2.7). No ICMP at all where
    flannel answers none (U18); of the MTU, `ping` must learn as anybody."""
    if header.fragment & ip.FRAGMENT_OFFSET:
        return False
    if header.protocol == ip.ICMP and (
        code != FRAGMENTATION_NEEDED or _is_error(packet, header)
    ):
        return False
    return _single_host(header.source) and header.destination >> 28 < 0xE


def _is_error(packet: bytes, header: ip.Header) -> bool:
    """Is this ICMP packet an error? If it is too short to tell, better so."""
    return header.total == header.length or packet[header.length] in _ERRORS


def _single_host(address: int) -> bool:
    """Not "this network", loopback, multicast, reserved or broadcast."""
    return address >> 24 not in (0, 127) and address >> 28 < 0xE


def unreachable(
    offender: bytes, header: ip.Header, source: int, code: int, mtu: int = 0
) -> bytes:
    """The whole IPv4 packet that answers `offender`, whose checked header is given.

    `source` is ours, as an integer; `mtu`, in bytes, goes with FRAGMENTATION_NEEDED
    (RFC 1191 section 4)."""
    quote = offender[: min(header.length + _QUOTED_PAYLOAD, header.total)]
    body = struct.pack("!BBHHH", _TYPE, code, 0, 0, mtu) + quote
    body = body[:2] + ip.checksum(body).to_bytes(2, "big") + body[4:]
    total = ip.MIN_HEADER + len(body)
    head = struct.pack(
        "!BBHHHBBHII", 0x45, 0, total, 0, 0, _TTL, ip.ICMP, 0, source, header.source
    )
    head = head[:10] + ip.checksum(head).to_bytes(2, "big") + head[12:]
    return head + body


class Limiter:
    """How often errors may be sent (RFC 1812 section 4.3.2.8): at most BURST at once,
    one every INTERVAL nanoseconds in the long run. The virtual-time form of a token
    bucket, so that its C twin needs one integer."""

    BURST = 50
    INTERVAL = 1_000_000

    def __init__(self) -> None:
        self._due = 0

    def allow(self, now: int) -> bool:
        """Take one, at `now` nanoseconds of a clock that never goes back."""
        due = max(self._due, now)
        if due - now > (self.BURST - 1) * self.INTERVAL:
            return False
        self._due = due + self.INTERVAL
        return True
