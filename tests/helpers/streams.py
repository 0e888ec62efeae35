"""Superpackets, the slow obvious way: how they are cut, and streams that may be joined.

cut() is what the kernel does with a frame, one field after the other; the fast path's
split and merge are held to it.
"""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st

from flannelette.encap import ip
from flannelette.native.api import GSO_TCPV4, GSO_UDP, NEEDS_CSUM, Frame, Vnet
from tests.helpers.among import among
from tests.helpers.packets import number, with_checksum

TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))


def pseudo(packet: bytes, length: int) -> bytes:
    return packet[12:20] + struct.pack("!BBH", 0, packet[9], length)


def l4_checksum(packet: bytes, header: int) -> bytes:
    """The packet with the TCP or UDP checksum that it should have."""
    at = header + (16 if packet[9] == TCP else 6)
    zeroed = packet[:at] + b"\0\0" + packet[at + 2 :]
    value = ip.checksum(pseudo(packet, len(packet) - header) + zeroed[header:])
    if value == 0 and packet[9] == UDP:
        value = 0xFFFF
    return packet[:at] + struct.pack("!H", value) + packet[at + 2 :]


def partial(packet: bytes, header: int) -> bytes:
    """The packet with the pseudo-header's sum alone, as NEEDS_CSUM promises it."""
    at = header + (16 if packet[9] == TCP else 6)
    value = 0xFFFF - ip.checksum(pseudo(packet, len(packet) - header))
    return packet[:at] + struct.pack("!H", value) + packet[at + 2 :]


def cut(frame: Frame) -> list[bytes]:
    """The packets that a frame stands for."""
    data, vnet = frame
    header = (data[0] & 0xF) * 4
    if vnet.gso_type == 0:
        needs = vnet.flags & NEEDS_CSUM
        return [l4_checksum(data, header) if needs else data]
    tcp = vnet.gso_type == GSO_TCPV4
    headers = header + ((data[header + 12] >> 4) * 4 if tcp else 8)
    payload = data[headers:]
    pieces = range(0, max(len(payload), 1), vnet.segment)
    packets = []
    for index, start in enumerate(pieces):
        piece = payload[start : start + vnet.segment]
        packet = bytearray(data[:headers] + piece)
        packet[2:4] = struct.pack("!H", len(packet))
        identification = struct.unpack_from("!H", data, 4)[0] + index
        packet[4:6] = struct.pack("!H", identification & 0xFFFF)
        if tcp:
            sequence = struct.unpack_from("!I", data, header + 4)[0] + start
            packet[header + 4 : header + 8] = struct.pack("!I", sequence & 0xFFFFFFFF)
            if index > 0:
                packet[header + 13] &= ~CWR & 0xFF
            if start + vnet.segment < len(payload):
                packet[header + 13] &= ~(FIN | PSH) & 0xFF
        else:
            packet[header + 4 : header + 6] = struct.pack("!H", len(packet) - header)
        packets.append(l4_checksum(with_checksum(bytes(packet)), header))
    return packets


def tcp_packet(
    payload: bytes,
    sequence: int = 1000,
    flags: int = ACK,
    source_port: int = 4000,
    options: bytes = b"",
    acknowledged: int = 77,
    window: int = 500,
    identification: int = 1,
    fragment: int = ip.DONT_FRAGMENT,
    tos: int = 0,
    ttl: int = 64,
    ip_options: bytes = b"",
    destination: str = "10.5.2.2",
) -> bytes:
    """A sound TCP packet from 10.5.1.2."""
    tcp = struct.pack(
        "!HHIIBBHHH",
        source_port,
        80,
        sequence & 0xFFFFFFFF,
        acknowledged,
        (5 + len(options) // 4) << 4,
        flags,
        window,
        0,
        0,
    )
    body = tcp + options + payload
    return _packet(
        TCP, body, identification, fragment, tos, ttl, ip_options, destination
    )


def udp_packet(
    payload: bytes,
    source_port: int = 4000,
    identification: int = 1,
    fragment: int = ip.DONT_FRAGMENT,
    tos: int = 0,
    ttl: int = 64,
    destination: str = "10.5.2.2",
) -> bytes:
    """A sound UDP packet from 10.5.1.2."""
    body = struct.pack("!HHHH", source_port, 53, 8 + len(payload), 0) + payload
    return _packet(UDP, body, identification, fragment, tos, ttl, b"", destination)


def _packet(
    protocol: int,
    body: bytes,
    identification: int,
    fragment: int,
    tos: int,
    ttl: int,
    ip_options: bytes,
    destination: str,
) -> bytes:
    length = 20 + len(ip_options)
    head = struct.pack(
        "!BBHHHBBHII",
        0x40 | length // 4,
        tos,
        length + len(body),
        identification,
        fragment,
        ttl,
        protocol,
        0,
        number("10.5.1.2"),
        number(destination),
    )
    return l4_checksum(with_checksum(head + ip_options) + body, length)


def superpacket(packet: bytes, segment: int) -> Frame:
    """A packet as the TUN would hand it over with offloads on."""
    header = (packet[0] & 0xF) * 4
    tcp = packet[9] == TCP
    headers = header + ((packet[header + 12] >> 4) * 4 if tcp else 8)
    vnet = Vnet(
        flags=NEEDS_CSUM,
        gso_type=GSO_TCPV4 if tcp else GSO_UDP,
        header_length=headers,
        segment=segment,
        checksum_start=header,
        checksum_offset=16 if tcp else 6,
    )
    return Frame(partial(packet, header), vnet)


# One in nine is nearly as long as there can be, and takes as long as all others.
payload_sizes = st.integers(0, 3375).map(lambda size: size if size <= 3000 else 65_000)

# ---- streams for merging -------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Packets of few flows, nearly in order: what a wire with troubles delivers.

    Loss, reordering and duplicates, options, ECN, fragments, flags of every kind, short
    and long segments, corrupt checksums."""
    segment = draw(among(1, 8, 100, 536))
    sequences = {4000: draw(among(0, 1000, 2**32 - 300)), 4001: 5}
    identification = draw(among(0, 1, 65530))
    fragment = draw(among(0, ip.DONT_FRAGMENT))
    packets = []
    for _ in range(draw(st.integers(1, 30))):
        port = draw(among(4000, 4000, 4000, 4000, 4001))
        size = draw(among(*[segment] * 8, 0, 1, segment + 1, segment // 2))
        payload = draw(among(b"\0", b"a", b"\xff")) * size
        common: dict[str, Any] = {
            "source_port": port,
            "identification": identification & 0xFFFF,
            "fragment": fragment | odd(draw, 0x2000, 0x2001, 0x8000),
            "tos": odd(draw, 1, 2, 3),
            "ttl": 64 - odd(draw, 1, 63),
        }
        if draw(st.integers(0, 3)):
            packets.append(
                tcp_packet(
                    payload,
                    sequence=sequences[port] + odd(draw, 1, -1, segment),
                    flags=ACK | odd(draw, PSH, FIN, SYN, RST, URG, ECE, CWR, PSH | ECE),
                    options=b"\1\1\1\1" * odd(draw, 1, 10),
                    acknowledged=77 + odd(draw, 1),
                    window=500 + odd(draw, 1),
                    ip_options=b"\1\1\1\1" * odd(draw, 1),
                    **common,
                )
            )
            sequences[port] += size
        else:
            packets.append(udp_packet(payload, **common))
        identification += 1 + odd(draw, 1, -1)
    return troubled(draw, packets)


def odd(draw: st.DrawFn, *values: int) -> int:
    """Mostly 0, else one of the values."""
    return draw(among(*[0] * 12 * len(values), *values))


def troubled(draw: st.DrawFn, packets: list[bytes]) -> list[bytes]:
    for _ in range(odd(draw, 1, 2, 3)):
        at = draw(st.integers(0, len(packets) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                packets.insert(at, packets[at])
            case 1:
                packets.append(packets.pop(at))
            case 2:
                data = bytearray(packets[at])
                data[-1] ^= 0x10
                packets[at] = bytes(data)
            case 3:
                packets[at] = packets[at] + b"padding"
    return packets


def without_identification(packet: bytes) -> bytes:
    """Of a packet that must not be fragmented the identification means nothing
    (RFC 6864 section 4.1), and joining may change it."""
    if packet[6] & 0x40:
        return with_checksum(packet[:4] + b"\0\0" + packet[6:])
    return packet
