"""encap.icmp6: RFC 4443, dissected and summed by scapy."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given, strategies as st
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6

from flannelette.encap import icmp6, ip
from tests.helpers.ipv6 import packet6
from tests.helpers.twins import TUN_ADDRESS6

REQUEST, REPLY, REDIRECT = 128, 129, 137


def answer(offender: bytes, kind: int = icmp6.UNREACHABLE, mtu: int = 0) -> bytes:
    header = ip.parse(offender, ipv6=True)
    return icmp6.error(offender, header, int(TUN_ADDRESS6), kind, mtu)


def dissected(data: bytes) -> IPv6:
    """With the checksum that scapy computes; it must be the one that is there."""
    seen = IPv6(data)
    again = IPv6(data)
    del again.payload.cksum
    assert bytes(again) == data
    assert seen.plen == len(data) - 40
    return seen


@given(st.binary(max_size=99), st.sampled_from(["fd00:1::1", "fe80::1", "2001:db8::"]))
def test_no_route(payload: bytes, source: str) -> None:
    offender = packet6(payload, source=source)
    seen = dissected(answer(offender))
    assert (seen.src, seen.dst) == (str(TUN_ADDRESS6), source)
    assert (seen.hlim, seen.tc, seen.fl, seen.nh) == (64, 0, 0, icmp6.ICMPV6)
    error = seen[ICMPv6DestUnreach]
    assert (error.code, error.length, error.unused) == (0, 0, 0)
    assert bytes(error.payload) == offender


def test_packet_too_big_tells_the_mtu() -> None:
    seen = dissected(answer(packet6(bytes(1500)), icmp6.TOO_BIG, 1430))
    assert (seen[ICMPv6PacketTooBig].code, seen[ICMPv6PacketTooBig].mtu) == (0, 1430)


@pytest.mark.parametrize("size", [0, 1191, 1192, 1193, 1400, 65535])
def test_quotes_what_fits(size: int) -> None:
    """And no padding."""
    offender = packet6(bytes(size))
    data = answer(offender + b"padding")
    assert data[48:] == offender[:1232]
    assert len(data) == min(48 + len(offender), 1280) <= icmp6.MAX_LENGTH


def answered(offender: bytes, kind: int) -> bool:
    return icmp6.answerable(offender, ip.parse(offender, ipv6=True), kind)


@pytest.mark.parametrize(
    ("offender", "no_route", "too_big"),
    [
        (packet6(), True, True),
        (packet6(source="fe80::1"), True, True),
        (packet6(source="::"), False, False),
        (packet6(source="::1"), False, False),
        (packet6(source="::2"), True, True),
        (packet6(source="ff02::1"), False, False),
        (packet6(source="ff00::"), False, False),
        (packet6(source="fe00::"), True, True),
        (packet6(destination="ff02::1"), False, True),
        (packet6(destination="ffff::"), False, True),
        (packet6(destination="::1"), True, True),
        # Behind extension headers nobody looks.
        (packet6(bytes([58, 0, 1, 4, 0, 0, 0, 0, 1]), 0), True, True),
    ],
)
def test_what_may_be_answered(offender: bytes, no_route: bool, too_big: bool) -> None:
    """RFC 4443 section 2.4 (e)."""
    assert answered(offender, icmp6.UNREACHABLE) is no_route
    assert answered(offender, icmp6.TOO_BIG) is too_big


@pytest.mark.parametrize("kind", range(256))
def test_errors_and_redirects_are_not_answered(kind: int) -> None:
    """Echo is, unlike what flannel does with IPv4's (U18)."""
    offender = packet6(bytes([kind]), icmp6.ICMPV6)
    expected = kind >= REQUEST and kind != REDIRECT
    for error in (icmp6.UNREACHABLE, icmp6.TOO_BIG):
        assert answered(offender, error) is expected


def test_too_short_to_tell() -> None:
    """Padding is no part of the packet: a type is not read from there."""
    offender = packet6(b"", icmp6.ICMPV6) + bytes([REQUEST])
    assert not answered(offender, icmp6.UNREACHABLE)
    assert answered(packet6(bytes([REPLY]), icmp6.ICMPV6), icmp6.UNREACHABLE)


def test_addresses_are_numbers() -> None:
    assert ip.parse(packet6(), ipv6=True).source == int(IPv6Address("fd00:1::1"))
