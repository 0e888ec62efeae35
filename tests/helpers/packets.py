"""Packets for tests: sound ones by scapy, any ones by Hypothesis."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network

from hypothesis import strategies as st

from flannelette.encap import ip
from flannelette.native.api import Route
from tests.helpers.among import among

MTU = 1472
TUN_ADDRESS = IPv4Address("10.5.1.0")
PEER = IPv4Address("192.0.2.2")
PORT = 8285
ROUTE = Route.to(IPv4Network("10.5.2.0/24"), PEER, PORT)


def number(address: str) -> int:
    return int(IPv4Address(address))


def with_checksum(packet: bytes) -> bytes:
    """The packet with the header checksum its header length calls for."""
    length = (packet[0] & 0xF) * 4
    if len(packet) < max(length, ip.MIN_HEADER) or length < ip.MIN_HEADER:
        return packet
    zeroed = packet[:10] + b"\0\0" + packet[12:]
    return packet[:10] + struct.pack("!H", ip.checksum(zeroed[:length])) + packet[12:]


def packet(
    source: str = "10.5.1.2",
    destination: str = "10.5.2.2",
    payload: bytes = b"payload.",
    ttl: int = 64,
    protocol: int = 17,
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    """A sound IPv4 packet, made without the code under test (but for its checksum)."""
    length = 20 + len(options)
    head = struct.pack(
        "!BBHHHBBHII",
        0x40 | length // 4,
        0,
        length + len(payload),
        1,
        fragment,
        ttl,
        protocol,
        0,
        number(source),
        number(destination),
    )
    return with_checksum(head + options + payload)


# Few networks, so that routes, destinations and each other's prefixes meet often.
addresses = st.one_of(
    st.builds(
        lambda third, fourth: 0x0A050000 | third << 8 | fourth,
        st.integers(0, 5),
        st.sampled_from([0, 1, 2, 127, 128, 255]),
    ),
    st.sampled_from(
        [0, number("127.0.0.1"), number("224.0.0.1"), 0xFFFFFFFF, number("240.0.0.1")]
    ),
    st.integers(0, 0xFFFFFFFF),
)


_payloads = st.one_of(
    st.binary(max_size=64),
    st.sampled_from([MTU - 21, MTU - 20, MTU - 19, 3000]).map(bytes),
)


@st.composite
def likely_packets(draw: st.DrawFn) -> bytes:
    """Packets that are nearly sound: each field may lie, most do not."""
    options = draw(among(0, 0, 0, 4, 40))
    payload = draw(_payloads)
    total = 20 + options + len(payload)
    head = struct.pack(
        "!BBHHHBBHII",
        draw(among(*[0x45 + options // 4] * 6, 0x44, 0x4F, 0x65, 0x05)),
        draw(st.integers(0, 255)),
        draw(st.one_of(st.just(total), st.integers(0, total + 2))),
        draw(st.integers(0, 0xFFFF)),
        draw(among(0, 0x4000, 0x2000, 0x2001, 0x0001, 0x8000)),
        draw(among(0, 1, 2, 64, 255)),
        draw(among(1, 6, 17, 255)),
        0,
        draw(addresses),
        draw(addresses),
    )
    made = with_checksum(head + bytes(options) + payload)
    if draw(st.integers(0, 9)) == 0:
        at, flip = draw(st.integers(0, len(made) - 1)), draw(st.integers(1, 255))
        made = made[:at] + bytes([made[at] ^ flip]) + made[at + 1 :]
    return made + draw(among(b"", b"", b"", b"padding"))


# ICMP, errors and others, that nothing hinders but perhaps its size.
icmp_packets = st.builds(
    lambda destination, kind, size: packet(
        destination=str(IPv4Address(destination)),
        payload=bytes([kind]) + bytes(size),
        protocol=ip.ICMP,
        fragment=ip.DONT_FRAGMENT,
    ),
    addresses,
    st.one_of(st.sampled_from([0, 3, 4, 5, 8, 11, 12]), st.integers(0, 255)),
    st.sampled_from([7, MTU - 21, MTU - 20, 3000, 3000]),
)


frames = st.one_of(st.binary(max_size=80), likely_packets(), icmp_packets)


# Few peers, so that packets come from those that there are.
peers = st.one_of(st.integers(1, 3), st.integers(0, 0xFFFFFFFF))
macs = st.one_of(st.sampled_from([0, 2**48 - 1]), st.integers(0, 2**48 - 1))


@st.composite
def _routes(draw: st.DrawFn) -> Route:
    length = draw(among(24, 24, 24, 16, 25, 32, 8, 1, 0))
    prefix = draw(addresses) & (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF
    port = draw(among(8285, 1, 65535))
    return Route(prefix, length, draw(peers), port, mac=draw(macs))


routes = _routes()
