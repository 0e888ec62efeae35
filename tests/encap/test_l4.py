"""encap.l4 against tests/helpers' own cuts and sums, and scapy's."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from flannelette.encap import ip, l4
from flannelette.encap.drop import Dropped
from tests.helpers.ipv6 import as6, cut6, packet6, partial6, superpacket6
from tests.helpers.packets import frames, packet
from tests.helpers.streams import (
    ACK,
    CWR,
    FIN,
    PSH,
    cut,
    partial,
    superpacket,
    tcp_packet,
    udp_packet,
)


def parsed(data: bytes) -> ip.Header:
    return ip.parse(data, ipv6=True)


# ---- flows ---------------------------------------------------------------------------


def slow_flow(data: bytes, flows: int) -> int:
    """From the 32-bit words of what the packet begins with."""
    v6 = data[0] >> 4 == 6
    addresses = data[8:40] if v6 else data[12:20]
    words = list(struct.unpack(f"!{len(addresses) // 4}I", addresses))
    protocol = data[6] if v6 else data[9]
    start = 40 if v6 else (data[0] & 15) * 4
    (told,) = struct.unpack_from("!H", data, 4 if v6 else 2)
    total = told + (40 if v6 else 0)
    fragment = not v6 and struct.unpack_from("!H", data, 6)[0] & 0x3FFF
    if protocol in (6, 17) and not fragment and total >= start + 4:
        words += struct.unpack_from("!I", data, start)
    state = protocol
    for word in words:
        state ^= word
    return (state * 0x9E3779B1 % 2**32 >> 16) % flows


some_packets = st.builds(
    lambda data, six: as6(data) if six else data,
    st.one_of(
        st.builds(
            packet,
            protocol=st.sampled_from([1, 6, 17, 47]),
            fragment=st.sampled_from([0, 0x2000, 1, 0x4000, 0x8000]),
            payload=st.sampled_from([bytes(3), b"\1\2\3\4", b"\5\6\7\x08" * 9]),
            options=st.sampled_from([b"", b"\1" * 4]),
        ),
        st.builds(udp_packet, st.binary(max_size=9), st.integers(0, 65535)),
    ),
    st.booleans(),
)


@given(some_packets, st.integers(1, 16))
def test_flow(data: bytes, flows: int) -> None:
    # What lies behind a packet that is too short for ports is none.
    assert l4.flow(data + b"padding", parsed(data), flows) == slow_flow(data, flows)


def test_all_fragments_are_of_one_flow() -> None:
    """Of a fragmented datagram only the first packet has the ports."""
    for flows in (2, 8, 16):
        parts = [
            packet(payload=payload, fragment=fragment)
            for payload, fragment in [(b"\x12\x34\0\x50", 0x2000), (b"data", 1)]
        ]
        assert len({l4.flow(part, parsed(part), flows) for part in parts}) == 1


def test_connections_are_spread() -> None:
    """Neighbouring ports use all sockets, about alike."""
    counts = [0] * 8
    for port in range(32768, 32768 + 800):
        data = udp_packet(b"", port)
        counts[l4.flow(data, parsed(data), 8)] += 1
    assert min(counts) > 50


# ---- partial checksums ---------------------------------------------------------------


@given(st.binary(max_size=40), st.booleans(), st.booleans())
def test_a_partial_checksum_is_finished(payload: bytes, udp: bool, six: bool) -> None:
    whole = udp_packet(payload) if udp else tcp_packet(payload)
    whole = as6(whole) if six else whole
    half = partial6(whole) if six else partial(whole, 20)
    assert l4.is_partial(half, parsed(half))
    assert l4.finish(half, parsed(half)) == whole
    assert l4.is_sound(whole, parsed(whole))
    # And scapy agrees.
    again = IPv6(whole) if six else IP(whole)
    del again.payload.chksum
    assert bytes(again) == whole


def test_a_udp_checksum_is_never_made_none() -> None:
    data = udp_packet(bytes(10))
    zero = data[:-2] + data[26:28]  # what the sum lacks: now it is 0
    half = partial(zero, 20)
    assert l4.finish(half, parsed(half))[26:28] == b"\xff\xff"


@pytest.mark.parametrize(
    "data",
    [
        udp_packet(b"abc"),
        tcp_packet(b"abc"),
        partial(udp_packet(b"abc"), 20)[:27] + b"\0" + udp_packet(b"abc")[28:],
        udp_packet(b"abc")[:26] + b"\0\0abc",
        packet(payload=bytes(8), protocol=1),
        packet(payload=bytes(7)),
        packet(payload=bytes(19), protocol=6),
        partial(udp_packet(b"abc", fragment=0x2000), 20),
        partial(tcp_packet(b"abc", fragment=1), 20),
        packet6(bytes(8), protocol=58),
    ],
)
def test_what_is_not_partial(data: bytes) -> None:
    assert not l4.is_partial(data, parsed(data))


@settings(max_examples=200)
@given(frames)
def test_any_packet_may_be_asked(data: bytes) -> None:
    try:
        header = parsed(data)
    except Dropped:
        return
    l4.is_partial(data, header)
    l4.flow(data, header, 8)


# ---- superpackets --------------------------------------------------------------------

superpackets = st.builds(
    lambda udp, size, flags, options, sequence: (
        udp_packet(bytes(range(256)) * (size // 256 + 1), identification=65530)
        if udp
        else tcp_packet(
            b"x" * (size + 1),
            sequence,
            ACK | flags,
            options=bytes(options * 4),
            identification=65530,
        )
    ),
    st.booleans(),
    st.sampled_from([0, 1, 99, 100, 101, 3000]),
    st.sampled_from([0, PSH, FIN | PSH, CWR, CWR | FIN]),
    st.sampled_from([0, 3]),
    st.sampled_from([1000, 2**32 - 500]),
)


@given(superpackets, st.sampled_from([1, 50, 100, 1448]), st.booleans())
def test_cut_is_what_the_kernel_does(data: bytes, segment: int, six: bool) -> None:
    frame = superpacket6(as6(data), segment) if six else superpacket(data, segment)
    expected = cut6(frame) if six else cut(frame)
    header = parsed(frame.data)
    headers = l4.headers(frame.data, header)
    assert headers == frame.vnet.header_length
    assert list(l4.cut(frame.data + b"padding", header, segment)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 40),
        ({32: 0x40}, 0),  # TCP: a data offset of 16 bytes
        ({32: 0xF0}, 0),  # of 60, beyond the end
        ({32: 0x60}, 44),
    ],
)
def test_tcp_headers_that_lie(change: dict[int, Any], expected: int) -> None:
    data = bytearray(tcp_packet(b"abcd"))
    for at, value in change.items():
        data[at] = value
    assert l4.headers(bytes(data), parsed(bytes(data))) == expected


@pytest.mark.parametrize("told", [0, 8, 11, 13, 65535])
def test_a_udp_length_that_lies(told: int) -> None:
    data = udp_packet(b"abcd")
    assert l4.headers(data, parsed(data)) == 28
    lie = data[:24] + struct.pack("!H", told) + data[26:]
    assert l4.headers(lie, parsed(lie)) == 0
