"""What passes a host's eth0, as its packet sockets see it: before segmentation when it
leaves, if the device segments, and after the kernel's joining when it arrives."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from tests.helpers.lab import Lab

ETHERNET = 14
UDP = 17
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_VNET_HDR = 263, 6, 15
_SO_RCVBUFFORCE = 33
_ETH_P_ALL = 3
_NEEDS_CSUM = 1
_OFFSET, _MORE_FRAGMENTS = 0x1FFF, 0x20
_VNET = struct.Struct("=BBHHHH")


class Datagram(NamedTuple):
    """A UDP datagram, or several that are still to be cut, in one Ethernet frame."""

    source: IPv4Address | IPv6Address
    source_port: int
    port: int
    checksum: int
    """As it is there: with `partial` it is not the right one yet."""
    partial: bool
    segment: int
    """Size at which something in it is still to be cut; 0: nothing is."""
    payload: bytes
    frame: bytes

    def cut(self) -> Iterator[bytes]:
        """The payloads of what it stands for, if it is UDP that is to be cut."""
        step = self.segment or max(len(self.payload), 1)
        for start in range(0, len(self.payload), step):
            yield self.payload[start : start + step]


class Tap:
    """A packet socket; what it missed for want of room fails the test."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def frames(self) -> Iterator[tuple[int, bool, bytes]]:
        """What passed since the last look: what is still to be cut at which size,
        whether a checksum is still to be finished, and Ethernet on."""
        while True:
            try:
                seen = self._sock.recv(1 << 17)
            except BlockingIOError:
                break
            flags, _, _, segment, _, _ = _VNET.unpack_from(seen)
            yield segment, bool(flags & _NEEDS_CSUM), seen[_VNET.size :]
        statistics = self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        assert struct.unpack("=II", statistics)[1] == 0

    def datagrams(self, port: int) -> Iterator[Datagram]:
        """Those to the port, over IPv4 and IPv6. An IPv4 fragment fails the test."""
        for segment, partial, frame in self.frames():
            version, header, end = _ip(frame)
            if version == 0:
                continue
            source = frame[26:30] if version == 4 else frame[22:38]
            from_, to, _, checksum = struct.unpack_from("!HHHH", frame, header)
            if to == port:
                fragmented = version == 4 and frame[ETHERNET + 6] & _MORE_FRAGMENTS
                assert not fragmented
                yield Datagram(
                    ip_address(source),
                    from_,
                    to,
                    checksum,
                    partial,
                    segment,
                    frame[header + 8 : end],
                    frame,
                )


def _ip(frame: bytes) -> tuple[int, int, int]:
    """Of a frame with UDP: IP version, where UDP begins, where the packet ends; zeros
    of any other."""
    ethertype = frame[12:14]
    if ethertype == b"\x08\x00" and frame[ETHERNET + 9] == UDP:
        total, _, fragment = struct.unpack_from("!HHH", frame, ETHERNET + 2)
        if fragment & _OFFSET:
            return 0, 0, 0
        return 4, ETHERNET + (frame[ETHERNET] & 0xF) * 4, ETHERNET + total
    if ethertype == b"\x86\xdd" and frame[ETHERNET + 6] == UDP:
        (length,) = struct.unpack_from("!H", frame, ETHERNET + 4)
        return 6, ETHERNET + 40, ETHERNET + 40 + length
    return 0, 0, 0


@contextmanager
def tap_on(it: Lab, number: int, device: str = "eth0") -> Iterator[Tap]:
    """Sees both what the host sends and what it receives."""
    with it.rig.inside(it.rig.host(number)):
        # Deaf until it is bound.
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 28)
        sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        with it.rig.inside(it.rig.host(number)):
            sock.bind((device, _ETH_P_ALL))
        yield Tap(sock)
