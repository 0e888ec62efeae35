"""encap.icmp: the answers of flannel-behaviour.md 5.3, dissected by scapy."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from scapy.layers.inet import ICMP, IP

from flannelette.encap import icmp, ip
from tests.helpers.packets import TUN_ADDRESS, packet


def answer(offender: bytes, code: int = icmp.NET_UNREACHABLE, mtu: int = 0) -> bytes:
    header = ip.parse(offender)
    return icmp.unreachable(offender, header, int(TUN_ADDRESS), code, mtu)


def may_answer(offender: bytes, code: int) -> bool:
    return icmp.answerable(offender, ip.parse(offender), code)


def test_net_unreachable_u17() -> None:
    offender = packet(payload=b"12345678 and more")
    data = answer(offender)
    assert len(data) == 56
    dissected = IP(data)
    assert (dissected.src, dissected.dst) == ("10.5.1.0", "10.5.1.2")
    assert (dissected.ttl, dissected.tos, dissected.id) == (8, 0, 0)
    assert int(dissected.flags) == 0
    assert (dissected[ICMP].type, dissected[ICMP].code) == (3, 0)
    assert data[28:] == offender[:28]
    assert ip.checksum(data[:20]) == 0
    assert ip.checksum(data[20:]) == 0


def test_fragmentation_needed_tells_the_mtu() -> None:
    data = answer(packet(), icmp.FRAGMENTATION_NEEDED, 1472)
    assert (IP(data)[ICMP].code, IP(data)[ICMP].nexthopmtu) == (4, 1472)
    assert ip.checksum(data[20:]) == 0


@given(st.integers(0, 12), st.sampled_from([b"", bytes(40)]), st.binary(max_size=9))
def test_quotes_no_more_than_the_offender_holds_u19(
    length: int, options: bytes, padding: bytes
) -> None:
    offender = packet(payload=bytes(range(length)), options=options)
    data = answer(offender + padding)
    assert data[28:] == offender[: 20 + len(options) + min(length, 8)]
    assert len(data) <= icmp.MAX_LENGTH


@pytest.mark.parametrize(
    ("offender", "expected"),
    [
        (packet(), True),
        (packet(options=bytes(40)), True),  # where flanneld is off by one (U18)
        (packet(protocol=ip.ICMP), False),
        (packet(fragment=0x2000), True),
        (packet(fragment=0x2001), False),
        (packet(fragment=0x0001), False),
        (packet(source="0.0.0.0"), False),
        (packet(source="127.0.0.1"), False),
        (packet(source="224.0.0.1"), False),
        (packet(source="255.255.255.255"), False),
        (packet(destination="224.0.0.22"), False),
        (packet(destination="255.255.255.255"), False),
    ],
)
def test_what_may_be_answered(offender: bytes, expected: bool) -> None:
    assert may_answer(offender, icmp.NET_UNREACHABLE) is expected
    if ip.parse(offender).protocol != ip.ICMP:
        assert may_answer(offender, icmp.FRAGMENTATION_NEEDED) is expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        *((bytes([kind, 0]), True) for kind in (0, 8, 9, 10, 13, 14, 30, 255)),
        *((bytes([kind, 0]), False) for kind in (3, 4, 5, 11, 12)),
        (b"\x08", True),
        (b"", False),
    ],
)
@pytest.mark.parametrize("options", [b"", bytes(4)])
def test_of_icmp_only_errors_are_not_told_the_mtu(
    payload: bytes, expected: bool, options: bytes
) -> None:
    """RFC 1812 section 4.3.2.7; "net unreachable" is kept from all of it (U18)."""
    offender = packet(protocol=ip.ICMP, payload=payload, options=options)
    # Padding is no part of the packet: a type is not read from there.
    assert may_answer(offender + b"\x08", icmp.FRAGMENTATION_NEEDED) is expected
    assert not may_answer(offender, icmp.NET_UNREACHABLE)


def test_limiter_lets_a_burst_through_and_then_the_rate() -> None:
    limiter = icmp.Limiter()
    start = 10**15
    burst = [limiter.allow(start) for _ in range(icmp.Limiter.BURST + 5)]
    assert burst == [True] * icmp.Limiter.BURST + [False] * 5
    assert not limiter.allow(start + icmp.Limiter.INTERVAL - 1)
    assert limiter.allow(start + icmp.Limiter.INTERVAL)
    assert not limiter.allow(start + icmp.Limiter.INTERVAL)


@given(st.lists(st.integers(0, 3 * 10**6), max_size=300))
def test_limiter_never_exceeds_its_budget(gaps: list[int]) -> None:
    """Over any span: at most the burst and one an interval (a bucket's definition)."""
    limiter, now, sent = icmp.Limiter(), 0, []
    for gap in gaps:
        now += gap
        if limiter.allow(now):
            sent.append(now)
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            span = sent[last] - sent[first]
            assert last - first + 1 <= 50 + span // 1_000_000
