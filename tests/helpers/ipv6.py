"""IPv6 packets for tests, and how their superpackets are cut, the slow obvious way."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, IPv6Network

from hypothesis import strategies as st

from flannelette.encap import ip
from flannelette.native.api import GSO_TCPV6, GSO_UDP, NEEDS_CSUM, Frame, Route, Vnet
from tests.helpers.among import among
from tests.helpers.packets import MTU, PEER, PORT, macs, peers
from tests.helpers.streams import CWR, FIN, PSH, TCP, UDP

HEADER = 40
HOP_BY_HOP, FRAGMENT = 0, 44
NETWORK = IPv6Network("fd00::/64")
ROUTE6 = Route.to(NETWORK, PEER, PORT)


def number6(address: str) -> int:
    return int(IPv6Address(address))


def packet6(
    body: bytes = b"payload.",
    protocol: int = 59,
    source: str = "fd00:1::1",
    destination: str = "fd00::2",
    hops: int = 64,
    traffic: int = 0,
    label: int = 0x12345,
) -> bytes:
    """A sound IPv6 packet; 59 is "no next header"."""
    first = 6 << 28 | traffic << 20 | label
    return (
        struct.pack("!IHBB", first, len(body), protocol, hops)
        + IPv6Address(source).packed
        + IPv6Address(destination).packed
        + body
    )


def _sum6(packet: bytes) -> int:
    """The checksum over pseudo-header and payload (RFC 8200 section 8.1)."""
    pseudo = packet[8:40] + struct.pack("!II", len(packet) - HEADER, packet[6])
    return ip.checksum(pseudo + packet[HEADER:])


def _field(packet: bytes) -> int:
    return HEADER + (16 if packet[6] == TCP else 6)


def _put(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + struct.pack("!H", value) + packet[at + 2 :]


def stamped6(packet: bytes) -> bytes:
    """The packet with the TCP or UDP checksum that it should have."""
    value = _sum6(_put(packet, _field(packet), 0))
    return _put(packet, _field(packet), value or (0xFFFF if packet[6] == UDP else 0))


def as6(packet: bytes) -> bytes:
    """An IPv4 packet's like: what was wrong with it stays wrong. A fragment gets a
    fragment header, options become extension headers."""
    header = (packet[0] & 0xF) * 4
    total, _, fragment = struct.unpack_from("!HHH", packet, 2)
    body, padding = packet[header:total], packet[total:]
    tos, ttl, protocol = packet[1], packet[8], packet[9]
    zeroed = body[:16] + b"\0\0" + body[18:] if protocol == TCP else b""
    zeroed = body[:6] + b"\0\0" + body[8:] if protocol == UDP else zeroed
    pseudo = packet[12:20] + struct.pack("!BBH", 0, protocol, len(body))
    made = packet6(
        body,
        protocol,
        f"fd00:1::{packet[15]:x}",
        f"fd00::{packet[19]:x}",
        ttl,
        tos,
    )
    if zeroed:
        sound = ip.checksum(pseudo + body) == 0
        none = protocol == UDP and body[6:8] == b"\0\0"
        made = made if none else stamped6(made)
        made = made if sound or none else made[:-1] + bytes([made[-1] ^ 1])
    if fragment & 0x3FFF:
        extension = struct.pack("!BBHI", made[6], 0, (fragment & 0x1FFF) << 3, 7)
        made = packet6(extension + made[HEADER:], FRAGMENT, hops=ttl, traffic=tos)
    elif header > 20:
        extension = struct.pack("!BBBB4x", made[6], 0, 1, 4)
        made = packet6(extension + made[HEADER:], HOP_BY_HOP, hops=ttl, traffic=tos)
    return made + padding


def superpacket6(packet: bytes, segment: int) -> Frame:
    """A packet as the TUN would hand it over with offloads on."""
    tcp = packet[6] == TCP
    headers = HEADER + ((packet[HEADER + 12] >> 4) * 4 if tcp else 8)
    offset = _field(packet) - HEADER
    kind = GSO_TCPV6 if tcp else GSO_UDP
    return Frame(
        partial6(packet), Vnet(NEEDS_CSUM, kind, headers, segment, HEADER, offset)
    )


def partial6(packet: bytes) -> bytes:
    """The packet with the pseudo-header's sum alone, as NEEDS_CSUM promises it."""
    pseudo = packet[8:40] + struct.pack("!II", len(packet) - HEADER, packet[6])
    return _put(packet, _field(packet), 0xFFFF - ip.checksum(pseudo))


def cut6(frame: Frame) -> list[bytes]:
    """The packets that a frame stands for."""
    data, vnet = frame
    if vnet.gso_type == 0:
        return [stamped6(data) if vnet.flags & NEEDS_CSUM else data]
    tcp = vnet.gso_type == GSO_TCPV6
    assert data[6] == (TCP if tcp else UDP)
    assert struct.unpack_from("!H", data, 4)[0] == len(data) - HEADER
    headers = HEADER + ((data[HEADER + 12] >> 4) * 4 if tcp else 8)
    payload = data[headers:]
    packets = []
    for index, start in enumerate(range(0, max(len(payload), 1), vnet.segment)):
        piece = payload[start : start + vnet.segment]
        packet = bytearray(data[:headers] + piece)
        packet[4:6] = struct.pack("!H", len(packet) - HEADER)
        if tcp:
            sequence = struct.unpack_from("!I", data, HEADER + 4)[0] + start
            packet[HEADER + 4 : HEADER + 8] = struct.pack("!I", sequence & 0xFFFFFFFF)
            if index > 0:
                packet[HEADER + 13] &= ~CWR & 0xFF
            if start + vnet.segment < len(payload):
                packet[HEADER + 13] &= ~(FIN | PSH) & 0xFF
        else:
            packet[HEADER + 4 : HEADER + 6] = packet[4:6]
        packets.append(stamped6(bytes(packet)))
    return packets


# ---- any ones ------------------------------------------------------------------------

addresses6 = st.one_of(
    st.builds(
        lambda high, low: number6("fd00::") + (high << 56) + low,
        st.integers(0, 3 << 8),
        st.sampled_from([0, 1, 2, 1 << 63]),
    ),
    st.sampled_from([0, 1, number6("ff02::1"), (1 << 128) - 1]),
    st.integers(0, (1 << 128) - 1),
)


_lengths = st.one_of(
    st.sampled_from([64, 64, 56, 63, 65, 128, 127, 1, 0]), st.integers(0, 128)
)


@st.composite
def _routes6(draw: st.DrawFn) -> Route:
    length = draw(_lengths)
    mask = (1 << 128) - (1 << 128 - length)
    port = draw(among(8285, 1, 65535))
    outer = draw(among(4, 6))
    peer = draw(peers) << (96 if outer == 6 and draw(st.booleans()) else 0)
    return Route(draw(addresses6) & mask, length, peer, port, 6, outer, draw(macs))


routes6 = _routes6()


_bodies = st.one_of(
    st.binary(max_size=64),
    st.sampled_from([MTU - 41, MTU - 40, MTU - 39, 3000]).map(bytes),
)


@st.composite
def packets6(draw: st.DrawFn) -> bytes:
    """Packets that are nearly sound: each field may lie, most do not."""
    body = draw(_bodies)
    first = draw(among(*[6] * 6, 4, 5, 0)) << 28 | draw(st.integers(0, (1 << 28) - 1))
    length = draw(st.one_of(st.just(len(body)), st.integers(0, len(body) + 2)))
    protocol = draw(among(0, 6, 17, 44, 58, 59))
    hops = draw(among(0, 1, 2, 64, 255))
    ends = draw(addresses6).to_bytes(16, "big") + draw(addresses6).to_bytes(16, "big")
    made = struct.pack("!IHBB", first, length, protocol, hops) + ends + body
    return made[: draw(among(39, 20, 19)) if draw(st.integers(0, 9)) == 0 else None]
