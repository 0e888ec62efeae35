"""IPv6 superpackets: split and merged as the twin's single packets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.encap import ip
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    GSO_TCPV4,
    GSO_TCPV6,
    NEEDS_CSUM,
    Direction,
    Frame,
    Vnet,
)
from tests.helpers.ipv6 import (
    as6,
    cut6,
    packet6,
    packets6,
    partial6,
    stamped6,
    superpacket6,
)
from tests.helpers.ipv6paths import ALL, as_bursts, carrying
from tests.helpers.packets import MTU
from tests.helpers.streams import (
    ACK,
    CWR,
    FIN,
    PSH,
    SYN,
    UDP,
    cut,
    payload_sizes,
    streams,
    tcp_packet,
    udp_packet,
    without_identification,
)
from tests.helpers.twins import datagrams

# ---- split ---------------------------------------------------------------------------


superpackets = st.builds(
    lambda udp, length, segment, flags, options, sequence: superpacket6(
        as6(
            udp_packet(b"x" * length)
            if udp
            else tcp_packet(
                bytes(range(256)) * (length // 256) + bytes(length % 256),
                sequence=sequence,
                flags=ACK | flags,
                options=bytes(options * 4),
            )
        ),
        segment,
    ),
    st.booleans(),
    payload_sizes,
    st.sampled_from([88, 100, 536, 1000, 1400]),
    st.sampled_from([0, PSH, FIN | PSH, CWR, CWR | FIN, SYN]),
    st.sampled_from([0, 3]),
    st.sampled_from([1000, 2**32 - 500]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(superpackets, max_size=3))
def test_split_gives_the_packets_that_a_frame_stands_for(frames: list[Frame]) -> None:
    with carrying(ALL) as (native, python):
        fast, answers = native.wrap_frames(frames, 0)
        singles = [data for frame in frames for data in cut6(frame)]
        assert datagrams(fast) == datagrams(python.wrap(singles, 0)[0])
        assert answers == []


def test_a_partial_checksum_is_finished() -> None:
    """Behind extension headers, too; and a UDP checksum is never 0."""
    tcp, udp = as6(tcp_packet(b"abc")), as6(udp_packet(bytes(10)))
    zero = udp[:-2] + udp[46:48]  # what the sum lacks
    zero = stamped6(zero)
    assert zero[46:48] == b"\xff\xff"
    with carrying(ALL) as (native, _):
        for whole in (tcp, udp, zero):
            offset = 6 if whole[6] == UDP else 16
            for extension in (b"", bytes([whole[6], 0, 1, 4, 0, 0, 0, 0])):
                start = 40 + len(extension)
                body = extension + partial6(whole)[40:]
                protocol = 0 if extension else whole[6]
                frame = Frame(
                    packet6(body, protocol), Vnet(NEEDS_CSUM, 0, 0, 0, start, offset)
                )
                bursts, _ = native.wrap_frames([frame], 0)
                assert bursts[0].data[start:] == whole[40:]


SOUND = Vnet(NEEDS_CSUM, GSO_TCPV6, 60, 100, 40, 16)


@pytest.mark.parametrize(
    ("data", "vnet"),
    [
        (as6(tcp_packet(bytes(300))), SOUND._replace(gso_type=GSO_TCPV4)),
        (as6(tcp_packet(bytes(300))), SOUND._replace(gso_type=5)),
        (as6(tcp_packet(bytes(300))), SOUND._replace(checksum_start=39)),
        (as6(tcp_packet(bytes(300), ip_options=b"\1" * 4)), SOUND),
        (as6(tcp_packet(bytes(300), fragment=0x2000)), SOUND),
        (tcp_packet(bytes(300)), SOUND),
    ],
)
def test_an_offload_header_that_does_not_fit(data: bytes, vnet: Vnet) -> None:
    with carrying(ALL) as (native, _):
        assert native.wrap_frames([Frame(data, vnet)], 0) == ([], [])
        assert native.counters(Direction.TX).drops[Drop.BAD_OFFLOAD] == 1


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        packets6(),
        streams().map(lambda packets: b"".join(map(as6, packets))),
        st.binary(max_size=120).map(lambda data: b"\x60" + data),
    ),
    st.tuples(*[st.integers(0, 255)] * 2, *[st.integers(0, 65535)] * 4),
    st.sampled_from([None, 0, GSO_TCPV6, 5]),
)
def test_any_bytes_behind_any_offload_header(
    data: bytes, fields: tuple[int], kind: int | None
) -> None:
    vnet = Vnet(*fields)
    if kind is not None:
        vnet = vnet._replace(gso_type=kind, checksum_start=40, checksum_offset=6)
    with carrying(ALL) as (native, _):
        bursts, _ = native.wrap_frames([Frame(data, vnet)], 0)
        for _, _, datagram in datagrams(bursts):
            assert len(datagram) <= MTU
            ip.parse(datagram, ipv6=True)


# ---- merge ---------------------------------------------------------------------------


def apart(frame: Frame) -> list[bytes]:
    """The packets that a frame of either version stands for."""
    if frame.data[0] >> 4 == 6:
        return cut6(frame)
    return [without_identification(data) for data in cut(frame)]


@settings(max_examples=400, deadline=None)
@given(streams(), st.sampled_from([0, 0, 1]))
def test_merge_changes_nothing_but_how_packets_are_written(
    packets: list[bytes], mixed: int
) -> None:
    packets = [p if mixed and i % 3 else as6(p) for i, p in enumerate(packets)]
    with carrying(ALL) as (native, python):
        merged = native.unwrap_frames(as_bursts(packets))
        expected = [apart(Frame(p))[0] for p in python.unwrap(as_bursts(packets))]
        assert [data for frame in merged for data in apart(frame)] == expected
        assert native.counters(Direction.RX).drops == (
            python.counters(Direction.RX).drops
        )


def run(count: int, size: int = 1000, **last: Any) -> list[bytes]:
    """A flow's packets in order, the last perhaps different."""
    made = [tcp_packet(bytes(size), sequence=i * size) for i in range(count)]
    if last:
        made[-1] = tcp_packet(bytes(size), **{"sequence": (count - 1) * size} | last)
    return [as6(data) for data in made]


def merged(packets: list[bytes]) -> list[int]:
    """How many packets each frame stands for."""
    with carrying(ALL) as (native, _):
        return [len(apart(f)) for f in native.unwrap_frames(as_bursts(packets))]


def test_a_run_is_one_frame() -> None:
    assert merged(run(40)) == [40]
    assert merged([as6(udp_packet(bytes(100)))] * 70) == [64, 6]
    with carrying(ALL) as (native, _):
        (frame,) = native.unwrap_frames(as_bursts(run(3)))
        assert frame.vnet == Vnet(NEEDS_CSUM, GSO_TCPV6, 60, 1000, 40, 16)


@pytest.mark.parametrize(
    "last",
    [
        {"flags": SYN | ACK},
        {"flags": FIN | ACK},
        {"flags": CWR | ACK},
        {"window": 501},
        {"tos": 1},
        {"ttl": 63},
        {"sequence": 2001},
        {"source_port": 4001},
        {"ip_options": b"\1" * 4},
        {"fragment": 0x2000},
    ],
)
def test_what_ends_a_run(last: dict[str, Any]) -> None:
    assert merged(run(3, **last)) == [2, 1]


@pytest.mark.parametrize("at", [3, 23, 39])
def test_flow_label_and_addresses_end_a_run(at: int) -> None:
    packets = run(3)
    data = bytearray(packets[2])
    data[at] ^= 1
    assert merged([*packets[:2], stamped6(bytes(data))]) == [2, 1]


def test_push_ends_a_run() -> None:
    pushed = run(3, flags=ACK | PSH)
    more = as6(tcp_packet(bytes(1000), sequence=3000))
    assert merged([*pushed, more]) == [3, 1]


def test_a_corrupt_packet_goes_alone_and_unchanged() -> None:
    packets = run(3)
    packets[1] = packets[1][:-1] + b"\1"
    with carrying(ALL) as (native, python):
        frames = native.unwrap_frames(as_bursts(packets))
        assert [frame.vnet.flags for frame in frames] == [0, 0, 0]
        assert [frame.data for frame in frames] == python.unwrap(as_bursts(packets))


def test_the_checksum_helper_is_sound() -> None:
    """The oracle's own check, against scapy."""
    from scapy.layers.inet6 import IPv6

    for data in (as6(tcp_packet(b"abc")), as6(udp_packet(b"abcd"))):
        dissected = IPv6(data)
        del dissected.payload.chksum
        assert data == bytes(dissected)
