"""Why a packet is dropped: one name for each reason, in every counter and log.

native/src/api.h lists the same names in the same order; a test compares the two.
"""

from __future__ import annotations

from enum import IntEnum


class Drop(IntEnum):
    """A reason to discard a packet. The value is its index among the counters."""

    SHORT = 0
    """Fewer bytes than an IP header has."""
    BAD_VERSION = 1
    """Not IPv4, nor IPv6 where that is carried."""
    BAD_HEADER = 2
    """A header length below 20 bytes, or beyond the packet's end."""
    BAD_LENGTH = 3
    """A total length below the header's, or beyond the packet's end; a jumbogram."""
    BAD_CHECKSUM = 4
    """The header checksum is wrong."""
    TTL_EXPIRED = 5
    """No hop left: TTL 0 or 1 on arrival."""
    NO_ROUTE = 6
    """No peer holds the destination."""
    OVERSIZE = 7
    """Longer than the overlay's MTU for its IP version."""
    SEND_FAILED = 8
    """The socket did not take the datagram."""
    WRITE_FAILED = 9
    """The TUN did not take the packet."""
    BAD_OFFLOAD = 10
    """What says how to cut a superpacket does not fit it: the TUN's offload header, or
    a burst's segment size."""
    UNKNOWN_PEER = 11
    """It came from an address that is no peer's."""
    WRONG_SOURCE = 12
    """Its own source is in no subnet of the peer that it came from."""
    BAD_FLAGS = 13
    """VXLAN: not the I flag alone, or a reserved bit is set."""
    WRONG_VNI = 14
    """VXLAN: another network's."""
    WRONG_MAC = 15
    """VXLAN: not for our MAC; or from none, from a group's, or from our own."""
    BAD_ETHERTYPE = 16
    """VXLAN: neither IPv4 nor IPv6, or not what the packet is: ARP, VLAN tags."""

    @property
    def label(self) -> str:
        """The name in counters and logs, such as `no_route`."""
        return self.name.lower()


class Dropped(Exception):
    """A packet is to be discarded, for the reason given; or a superpacket, and then all
    that it stands for."""

    def __init__(self, reason: Drop, packets: int = 1) -> None:
        super().__init__(reason.label)
        self.reason = reason
        self.packets = packets
