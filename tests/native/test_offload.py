"""Superpackets through split and merge give the very packets they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.dataplane.purepath import PurePath
from flannelette.encap import ip
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    GSO_TCPV4,
    GSO_UDP,
    NEEDS_CSUM,
    Burst,
    Direction,
    Frame,
    Offload,
    Vnet,
)
from flannelette.native.fastpath import FastPath
from tests.helpers.packets import MTU, ROUTE, packet
from tests.helpers.streams import (
    ACK,
    CWR,
    FIN,
    PSH,
    SYN,
    cut,
    l4_checksum,
    payload_sizes,
    streams,
    superpacket,
    tcp_packet,
    udp_packet,
    without_identification,
)
from tests.helpers.twins import both, datagrams

ALL = Offload.VNET | Offload.MERGE_TCP | Offload.MERGE_UDP | Offload.GSO | Offload.GRO


@contextmanager
def offloading(offloads: Offload = ALL) -> Iterator[tuple[FastPath, PurePath]]:
    """FastPath with offloads beside PurePath, which has none."""
    with both(offloads=offloads) as (native, python):
        assert isinstance(native, FastPath)
        assert isinstance(python, PurePath)
        for path in (native, python):
            path.set_routes([ROUTE])
        yield native, python


# ---- split ---------------------------------------------------------------------------

tcp_superpackets = st.builds(
    lambda length, segment, flags, options, sequence, identification, fragment: (
        superpacket(
            tcp_packet(
                bytes(range(256)) * (length // 256) + bytes(length % 256),
                sequence=sequence,
                flags=ACK | flags,
                options=bytes(options * 4),
                identification=identification,
                fragment=fragment,
            ),
            segment,
        )
    ),
    payload_sizes,
    st.sampled_from([88, 100, 536, 1000, 1400]),
    st.sampled_from([0, PSH, FIN | PSH, CWR, CWR | FIN, SYN]),
    st.sampled_from([0, 3]),
    st.sampled_from([1000, 2**32 - 500]),
    st.sampled_from([0, 1, 65535]),
    st.sampled_from([0, ip.DONT_FRAGMENT]),
)
udp_superpackets = st.builds(
    lambda length, segment: superpacket(udp_packet(b"x" * length), segment),
    st.integers(0, 3000),
    st.sampled_from([88, 100, 1000, 1444]),
)
partial_packets = st.builds(
    lambda length: superpacket(udp_packet(b"y" * length), 1)._replace(
        vnet=Vnet(NEEDS_CSUM, 0, 0, 0, 20, 6)
    ),
    st.integers(0, 1000),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(tcp_superpackets, udp_superpackets, partial_packets), max_size=4)
)
def test_split_gives_the_packets_that_a_frame_stands_for(frames: list[Frame]) -> None:
    with offloading() as (native, python):
        for frame in frames:
            fast, fast_answers = native.wrap_frames([frame], 0)
            pure, pure_answers = python.wrap(cut(frame), 0)
            assert datagrams(fast) == datagrams(pure)
            assert fast_answers == []
            assert pure_answers == []
        fast, _ = native.wrap_frames(frames, 0)
        assert datagrams(fast) == [
            datagram
            for frame in frames
            for datagram in datagrams(python.wrap(cut(frame), 0)[0])
        ]


def test_a_superpacket_is_one_burst() -> None:
    frame = superpacket(tcp_packet(bytes(10_000)), 1400)
    with offloading() as (native, _):
        (burst,), _ = native.wrap_frames([frame], 0)
    assert burst.segment == 1440
    assert len(burst.data) == 10_000 + 8 * 40


@pytest.mark.parametrize(
    ("change", "reason", "code"),
    [
        ({"destination": "10.9.9.9"}, Drop.NO_ROUTE, b"\3\0"),
        ({"ttl": 1}, Drop.TTL_EXPIRED, None),
    ],
)
def test_a_dropped_superpacket_counts_each_packet_and_is_answered_once(
    change: dict[str, Any], reason: Drop, code: bytes | None
) -> None:
    frame = superpacket(tcp_packet(bytes(3000), **change), 1000)
    with offloading() as (native, _):
        bursts, answers = native.wrap_frames([frame], 0)
        assert bursts == []
        assert [a.data[20:22] for a in answers] == ([code] if code else [])
        assert native.counters(Direction.TX).drops[reason] == 3


def test_segments_beyond_the_mtu_are_oversize() -> None:
    """Of a superpacket the packets count, not the whole (trap 17)."""
    with offloading() as (native, _):
        for segment, passes in ((MTU - 40, True), (MTU - 39, False)):
            frame = superpacket(tcp_packet(bytes(3 * segment)), segment)
            bursts, answers = native.wrap_frames([frame], 0)
            assert bool(bursts) is passes
            assert len(answers) == (not passes)
        assert native.counters(Direction.TX).drops[Drop.OVERSIZE] == 3


SOUND = Vnet(NEEDS_CSUM, GSO_TCPV4, 40, 100, 20, 16)


@pytest.mark.parametrize(
    "vnet",
    [
        SOUND._replace(segment=0),
        SOUND._replace(gso_type=GSO_UDP),
        SOUND._replace(gso_type=3),
        SOUND._replace(gso_type=4),
        SOUND._replace(segment=1000, checksum_start=65535),  # one packet, in the end
        Vnet(NEEDS_CSUM, 0, 0, 0, 19, 16),
        Vnet(NEEDS_CSUM, 0, 0, 0, 20, 65535),
        Vnet(NEEDS_CSUM, 0, 0, 0, 65535, 0),
    ],
)
def test_an_offload_header_that_does_not_fit(vnet: Vnet) -> None:
    with offloading() as (native, _):
        frame = Frame(tcp_packet(bytes(300)), vnet)
        assert native.wrap_frames([frame], 0) == ([], [])
        assert native.counters(Direction.TX).drops[Drop.BAD_OFFLOAD] == 1


def test_header_length_is_only_a_hint() -> None:
    """On the forward path it may span the whole first packet (section 1.2)."""
    frame = superpacket(tcp_packet(bytes(3000)), 1000)
    lying = frame._replace(vnet=frame.vnet._replace(header_length=1040))
    with offloading() as (native, _):
        assert native.wrap_frames([lying], 0) == native.wrap_frames([frame], 0)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=200), streams().map(b"".join)),
    st.tuples(*[st.integers(0, 255)] * 2, *[st.integers(0, 65535)] * 4),
)
def test_any_bytes_behind_any_offload_header(data: bytes, fields: tuple[int]) -> None:
    with offloading() as (native, _):
        bursts, _ = native.wrap_frames([Frame(data, Vnet(*fields))], 0)
        for _, _, datagram in datagrams(bursts):
            assert len(datagram) <= MTU
            ip.parse(datagram)


# ---- merge ---------------------------------------------------------------------------


def as_bursts(packets: list[bytes]) -> list[Burst]:
    return [Burst(data, len(data), 1, 1) for data in packets]


@settings(max_examples=500, deadline=None)
@given(streams())
def test_merge_changes_nothing_but_how_packets_are_written(
    packets: list[bytes],
) -> None:
    """Trap 18: what comes out, cut again, is what went in, in the same order."""
    with offloading() as (native, python):
        merged = native.unwrap_frames(as_bursts(packets))
        expected = python.unwrap(as_bursts(packets))
        again = [data for frame in merged for data in cut(frame)]
        assert [without_identification(p) for p in again] == [
            without_identification(p) for p in expected
        ]
        assert native.counters(Direction.RX).drops == (
            python.counters(Direction.RX).drops
        )


def run(count: int, size: int = 1000, **last: Any) -> list[bytes]:
    """A flow's packets in order, the last perhaps different."""
    made = [tcp_packet(bytes(size), sequence=i * size) for i in range(count)]
    if last:
        sequence = (count - 1) * size
        made[-1] = tcp_packet(bytes(size), **{"sequence": sequence, **last})
    return made


def merged(packets: list[bytes], offloads: Offload = ALL) -> list[int]:
    """How many packets each frame stands for."""
    with offloading(offloads) as (native, _):
        return [len(cut(f)) for f in native.unwrap_frames(as_bursts(packets))]


def test_a_run_is_one_frame() -> None:
    assert merged(run(40)) == [40]
    assert merged(run(40), Offload.VNET) == [1] * 40
    assert merged([udp_packet(bytes(100))] * 40) == [40]


def test_limits_trap_11() -> None:
    """64 datagrams of UDP; 65,535 bytes of anything."""
    assert merged([udp_packet(bytes(10))] * 70) == [64, 6]
    assert merged(run(70)) == [65, 5]


@pytest.mark.parametrize(
    "last",
    [
        {"flags": SYN | ACK},  # trap 7
        {"flags": FIN | ACK},
        {"flags": CWR | ACK},  # trap 6
        {"options": 3},  # trap 8
        {"window": 501},
        {"acknowledged": 78},
        {"tos": 1},  # trap 5
        {"ttl": 63},
        {"fragment": 0},
        {"sequence": 2001},  # trap 9
        {"sequence": 1999},
        {"source_port": 4001},
    ],
)
def test_what_ends_a_run(last: dict[str, Any]) -> None:
    if "options" in last:
        packets = [*run(2), tcp_packet(bytes(1000), sequence=2000, options=bytes(12))]
    else:
        packets = run(3, **last)
    assert merged(packets) == [2, 1]


def test_push_and_short_segments_are_the_last_traps_7_10() -> None:
    pushed = run(3, flags=ACK | PSH)
    assert merged([*pushed, tcp_packet(bytes(1000), sequence=3000)]) == [3, 1]
    short = [*run(2), tcp_packet(bytes(10), sequence=2000)]
    assert merged([*short, tcp_packet(bytes(10), sequence=2010)]) == [3, 1]
    assert merged([*run(1, size=10), tcp_packet(bytes(11), sequence=10)]) == [1, 1]


def test_a_corrupt_packet_goes_alone_and_unchanged_trap_1() -> None:
    packets = run(3)
    corrupt = packets[1][:-1] + b"\1"
    with offloading() as (native, python):
        frames = native.unwrap_frames(as_bursts([packets[0], corrupt, packets[2]]))
        assert [frame.vnet.flags for frame in frames] == [0, 0, 0]
        assert frames[1].data == python.unwrap(as_bursts([corrupt]))[0]


def test_udp_without_a_checksum_goes_alone_trap_2() -> None:
    plain = udp_packet(bytes(100))
    none = plain[:26] + b"\0\0" + plain[28:]
    assert merged([none, none, none]) == [1, 1, 1]


def test_identifications_trap_4() -> None:
    """Any with DF; without it, only what cutting would count up again."""
    for step, expected in ((1, [3]), (0, [1, 1, 1]), (2, [1, 1, 1])):
        ids = [(65535 + i * step) & 0xFFFF for i in range(3)]
        packets = [
            tcp_packet(bytes(9), sequence=i * 9, identification=n, fragment=0)
            for i, n in enumerate(ids)
        ]
        assert merged(packets) == expected


def test_pure_acknowledgements_are_not_merged_trap_10() -> None:
    assert merged([tcp_packet(b""), tcp_packet(b"")]) == [1, 1]


def test_a_run_goes_on_over_the_bursts_of_one_receive() -> None:
    packets = run(8)
    with offloading() as (native, _):
        bursts = [
            Burst(b"".join(packets[:4]), len(packets[0]), 1, 1),
            Burst(b"".join(packets[4:]), len(packets[0]), 1, 1),
        ]
        assert [len(cut(f)) for f in native.unwrap_frames(bursts)] == [8]


def test_the_checksum_helper_is_sound() -> None:
    """The oracle's own check, against scapy."""
    from scapy.layers.inet import IP

    data = packet(protocol=6, payload=tcp_packet(b"abc")[20:])
    dissected = IP(data)
    del dissected["TCP"].chksum
    assert l4_checksum(data, 20) == bytes(dissected)
