"""encap.ip against scapy, which computes the same another way."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.utils import checksum as scapy_checksum

from flannelette.encap import ip
from flannelette.encap.drop import Drop, Dropped
from tests.helpers.ipv6 import packet6, packets6
from tests.helpers.packets import frames, packet, with_checksum


@given(st.binary())
def test_checksum_is_scapys(data: bytes) -> None:
    assert ip.checksum(data) == scapy_checksum(data)


@given(frames)
def test_parse_gives_a_header_or_raises_dropped(data: bytes) -> None:
    try:
        header = ip.parse(data)
    except Dropped:
        return
    dissected = IP(data)
    assert header == ip.Header(
        length=dissected.ihl * 4,
        total=dissected.len,
        ttl=dissected.ttl,
        protocol=dissected.proto,
        fragment=int(dissected.flags) << 13 | dissected.frag,
        source=int.from_bytes(data[12:16], "big"),
        destination=int.from_bytes(data[16:20], "big"),
    )


def changed(at: int, value: int) -> bytes:
    data = bytearray(packet())
    data[at] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Drop.SHORT),
        (packet()[:19], Drop.SHORT),
        (changed(0, 0x65), Drop.BAD_VERSION),
        (changed(0, 0x05), Drop.BAD_VERSION),
        (changed(0, 0x44), Drop.BAD_HEADER),
        (packet()[:27].replace(b"\x45", b"\x47", 1), Drop.BAD_HEADER),
        (changed(3, 19), Drop.BAD_LENGTH),
        (changed(3, 29), Drop.BAD_LENGTH),
        (changed(2, 0xFF), Drop.BAD_LENGTH),
        (changed(8, 63), Drop.BAD_CHECKSUM),
    ],
)
def test_each_reason_to_refuse_a_header(data: bytes, reason: Drop) -> None:
    with pytest.raises(Dropped) as caught:
        ip.parse(data)
    assert caught.value.reason is reason


@given(packets6())
def test_parse_of_ipv6_gives_a_header_or_raises_dropped(data: bytes) -> None:
    try:
        header = ip.parse(data, ipv6=True)
    except Dropped:
        return
    if header.version == 4:
        return
    dissected = IPv6(data)
    assert header == ip.Header(
        length=40,
        total=dissected.plen + 40,
        ttl=dissected.hlim,
        protocol=dissected.nh,
        fragment=0,
        source=int.from_bytes(data[8:24], "big"),
        destination=int.from_bytes(data[24:40], "big"),
        version=6,
    )


# RFC 2675: the jumbo payload option, type 0xc2, says 65,600 bytes.
JUMBO = bytes.fromhex("3b 00 c2 04 00 01 00 40")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (packet6()[:39], Drop.SHORT),
        (packet6()[:-1], Drop.BAD_LENGTH),
        (b"\x50" + packet6()[1:], Drop.BAD_VERSION),
        (packet6(b"", ip.HOP_BY_HOP), Drop.BAD_LENGTH),
        (packet6(b"", ip.HOP_BY_HOP) + JUMBO + bytes(65600), Drop.BAD_LENGTH),
    ],
)
def test_each_reason_to_refuse_an_ipv6_header(data: bytes, reason: Drop) -> None:
    with pytest.raises(Dropped) as caught:
        ip.parse(data, ipv6=True)
    assert caught.value.reason is reason


def test_no_payload_at_all_is_no_jumbogram() -> None:
    """Nor is one with hop-by-hop options that has a length."""
    assert ip.parse(packet6(b"", 59), ipv6=True).total == 40
    assert ip.parse(packet6(JUMBO, ip.HOP_BY_HOP), ipv6=True).total == 48


def test_ipv6_is_refused_unless_it_is_carried() -> None:
    with pytest.raises(Dropped) as caught:
        ip.parse(packet6())
    assert caught.value.reason is Drop.BAD_VERSION


@given(frames)
def test_take_hop_is_what_scapy_would_build(data: bytes) -> None:
    try:
        header = ip.parse(data)
        taken = ip.take_hop(data, header)
    except Dropped:
        return
    expected = bytearray(data[: header.total])
    expected[8] -= 1
    assert taken == with_checksum(bytes(expected))
    assert scapy_checksum(taken[: header.length]) == 0


@pytest.mark.parametrize("ttl", [0, 1])
def test_no_hop_left_u11(ttl: int) -> None:
    data = packet(ttl=ttl)
    with pytest.raises(Dropped) as caught:
        ip.take_hop(data, ip.parse(data))
    assert caught.value.reason is Drop.TTL_EXPIRED


def test_padding_is_not_forwarded() -> None:
    data = packet()
    assert len(ip.take_hop(data + b"padding", ip.parse(data + b"padding"))) == len(data)
