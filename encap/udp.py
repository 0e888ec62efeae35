"""flannel's udp backend on the wire: the IP packet is the UDP payload.

No header, no magic, no authentication (flannel-behaviour.md section 5.2).
"""

from __future__ import annotations

from flannelette.encap import ip
from flannelette.encap.drop import Drop, Dropped

PORT = 8285
"""The port when the network configuration names none (U1)."""

OVERHEAD = 28
"""Bytes that an outer IPv4 and UDP header take from the interface's MTU (U5)."""

MOST = 65507
"""Bytes of payload that one datagram can carry over IPv4."""


def wrap(packet: bytes, header: ip.Header, mtu: int) -> bytes:
    """The datagram that carries a packet: one hop less (U11), no padding.

    Raises Dropped: no hop left, or longer than the overlay's MTU in bytes."""
    datagram = ip.take_hop(packet, header)
    if header.total > mtu:
        raise Dropped(Drop.OVERSIZE)
    return datagram


def unwrap(datagram: bytes, mtu: int, mtu6: int = 0) -> bytes:
    """The packet in a datagram: checked, one hop less, no padding (U14 done right).
    Both MTUs are bytes; without mtu6 there is no IPv6.

    Raises Dropped, and nothing else. A datagram longer than its version's MTU is
    dropped whole, where flanneld would cut it (U13)."""
    if len(datagram) > max(mtu, mtu6):  # perhaps not even received whole
        raise Dropped(Drop.OVERSIZE)
    header = ip.parse(datagram, mtu6 > 0)
    if len(datagram) > (mtu6 if header.version == 6 else mtu):
        raise Dropped(Drop.OVERSIZE)
    return ip.take_hop(datagram, header)
