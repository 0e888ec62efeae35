"""Trap 18: what goes through split and merge comes out as it would packet by packet.

Byte for byte, but for how runs are cut into frames, and for the identification of what
must not be fragmented. Within a flow the order holds; between flows it is free.
PurePath has no offloads and says what is right. The second half are the cases of Linux'
own tools/testing/selftests/net/gro.c, with what each coalesces to.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.dataplane.purepath import PurePath
from flannelette.native.api import Burst, Direction, Frame, Offload
from flannelette.native.fastpath import FastPath
from tests.helpers.among import among
from tests.helpers.packets import ROUTE
from tests.helpers.streams import (
    ACK,
    CWR,
    FIN,
    PSH,
    RST,
    SYN,
    URG,
    cut,
    superpacket,
    tcp_packet,
    udp_packet,
)
from tests.helpers.troubles import (
    MORE_FRAGMENTS,
    TROUBLES,
    WAYS,
    check_same,
    interleaved,
    stamped,
    timestamps,
    wires,
)
from tests.helpers.twins import both, datagrams

ALL = Offload.VNET | Offload.MERGE_TCP | Offload.MERGE_UDP | Offload.GSO | Offload.GRO


@contextmanager
def offloading() -> Iterator[tuple[FastPath, PurePath]]:
    with both(offloads=ALL) as (native, python):
        assert isinstance(native, FastPath)
        assert isinstance(python, PurePath)
        for path in (native, python):
            path.set_routes([ROUTE])
        yield native, python


def bursts_of(packets: list[bytes], together: bool) -> list[Burst]:
    """One each, or those of a length as one, as the socket's UDP_GRO gives them."""
    bursts: list[Burst] = []
    for data in packets:
        if together and bursts and len(data) <= bursts[-1].segment:
            last = bursts[-1]
            if len(last.data) % last.segment == 0 and len(last.data) < 60_000:
                bursts[-1] = last._replace(data=last.data + data)
                continue
        bursts.append(Burst(data, max(len(data), 1), 1, 1))
    return bursts


def through_merge(packets: list[bytes], together: bool) -> int:
    """Both paths unwrap the same; how many packets were spared a frame of their own."""
    with offloading() as (native, python):
        bursts = bursts_of(packets, together)
        frames, expected = native.unwrap_frames(bursts), python.unwrap(bursts)
        check_same(frames, expected)
        assert native.counters(Direction.RX).drops == (
            python.counters(Direction.RX).drops
        )
        return len(expected) - len(frames)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_merge(trouble: str) -> None:
    spared = 0

    @settings(max_examples=40, deadline=None)
    @given(wires(trouble), st.booleans())
    def check(packets: list[bytes], together: bool) -> None:
        nonlocal spared
        spared += through_merge(packets, together)

    check()
    assert spared > 0, "nothing was merged: this test shows nothing"


@st.composite
def superflows(draw: st.DrawFn) -> list[Frame]:
    """What the TUNs of several pods' host hand over, long and short."""
    frames = []
    for number in range(draw(st.integers(1, 4))):
        sequence = draw(among(0, 2**32 - 3000))
        for _ in range(draw(st.integers(1, 3))):
            size = draw(among(0, 1, 500, 1000, 1001, 3000, 5500))
            payload = bytes((number * 41 + at) % 251 for at in range(size))
            if number == 3:
                packet = udp_packet(payload, source_port=4003)
            else:
                flags = draw(among(0, 0, PSH, FIN, CWR, PSH | FIN))
                options = draw(among(b"", timestamps(7, 3)))
                packet = tcp_packet(
                    payload, sequence, ACK | flags, 4000 + number, options
                )
            frames.append(superpacket(packet, draw(among(500, 1000))))
            sequence += size
    return frames


@pytest.mark.parametrize("trouble", ["nothing", *WAYS])
def test_split_then_merge(trouble: str) -> None:
    """From a TUN over a wire with troubles to the other TUN."""
    spared = 0

    @settings(max_examples=40, deadline=None)
    @given(superflows(), st.data())
    def check(frames: list[Frame], data: st.DataObject) -> None:
        nonlocal spared
        with offloading() as (native, python):
            sent = [d for _, _, d in datagrams(native.wrap_frames(frames, 0)[0])]
            singles = [packet for frame in frames for packet in cut(frame)]
            assert sent == [d for _, _, d in datagrams(python.wrap(singles, 0)[0])]
        if trouble in WAYS:
            way = WAYS[trouble]
            sent = data.draw(st.composite(lambda draw: way(draw, sent))())
        spared += through_merge(sent, together=data.draw(st.booleans()))

    check()
    assert spared > 0, "nothing was merged: this test shows nothing"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_flows_share_nothing(data: st.DataObject) -> None:
    """Flows that differ in one port, or one address, and else are equal."""
    one = [tcp_packet(bytes([at]) * 50, sequence=at * 50) for at in range(4)]
    other_port = [stamped(p[:20] + struct.pack("!H", 4001) + p[22:]) for p in one]
    other_host = [stamped(p[:15] + b"\3" + p[16:]) for p in one]
    other_target = [stamped(p[:19] + b"\3" + p[20:]) for p in one]
    flows = [one, other_port, other_host, other_target]
    mixed = data.draw(st.composite(lambda draw: interleaved(draw, flows))())
    through_merge(mixed, together=False)


# ---- the kernel's own cases: its PAYLOAD_LEN is 100 ----------------------------------


def data(at: int, size: int = 100, **changes: Any) -> bytes:
    """The packet of `size` bytes that begins `at` bytes into the flow."""
    return tcp_packet(b"a" * size, sequence=100 + at, **changes)


def flagged(size: int, flags: int) -> list[bytes]:
    """send_flags: the third of five has the flag."""
    middle = data(2 * size, size, flags=flags)
    return [data(0), data(100), middle, data(300), data(400)]


def identified(fragment: int, *identifications: int) -> list[bytes]:
    """send_flush_id_case."""
    return [
        data(100 * at, identification=number, fragment=fragment)
        for at, number in enumerate(identifications)
    ]


DF = 0x4000
MSS = 4096 - 40
FULL = (65535 - 40) // MSS
REST = 65535 - 40 - FULL * MSS


def large(last: int) -> list[bytes]:
    """send_large."""
    return [
        *(data(at * MSS, MSS) for at in range(FULL)),
        data(FULL * MSS, last),
        data((FULL + 1) * MSS, last),
    ]


KERNEL_CASES: dict[str, tuple[list[bytes], list[int]]] = {
    "data: same length": ([data(0), data(100)], [200]),
    "data: a smaller one follows": ([data(0), data(100, 50)], [150]),
    "data: a larger one follows": ([data(0, 50), data(50, 100)], [50, 100]),
    "ack": ([data(0, 0), data(0, 0), data(0, 0, acknowledged=78)], [0, 0, 0]),
    "flags: psh": (flagged(100, ACK | PSH), [300, 200]),
    "flags: syn": (flagged(0, ACK | SYN), [200, 0, 200]),
    "flags: rst": (flagged(0, ACK | RST), [200, 0, 200]),
    "flags: urg": (flagged(0, ACK | URG), [200, 0, 200]),
    "flags: cwr": (flagged(100, ACK | CWR), [200, 100, 200]),
    "tcp: checksum": ([data(0), data(100)[:-1] + b"b"], [100, 100]),
    "tcp: sequence": ([data(0), data(101)], [100, 100]),
    "tcp: timestamps": (
        [
            data(at * 100, options=options)
            for at, options in enumerate(
                [
                    timestamps(0, 0),
                    timestamps(0, 0),
                    timestamps(100, 0),
                    b"\1" + timestamps(100, 0)[2:] + b"\1",
                    timestamps(100, 0)[2:] + b"\1\1",
                ]
            )
        ],
        [200, 100, 100, 100],
    ),
    "tcp: options": (
        [
            data(0, options=timestamps(0, 0)),
            data(100, options=timestamps(0, 0)),
            data(200, options=b"\1\3\3\0"),
        ],
        [200, 100],
    ),
    "ip: ecn": ([data(0), data(100, tos=2)], [100, 100]),
    "ip: tos": ([data(0), data(100, tos=1)], [100, 100]),
    "ip: ttl": ([data(0, ttl=8), data(100, ttl=7)], [100, 100]),
    "ip: options": (
        [data(0), data(100, ip_options=b"\x44\x08\x05\0\0\0\0\0"), data(200)],
        [100, 100, 100],
    ),
    "ip: fragment": ([data(0), data(100, fragment=DF | MORE_FRAGMENTS)], [100, 100]),
    "ip: identification, DF, counting": (identified(DF, 8, 9), [200]),
    "ip: identification, DF, fixed": (identified(DF, 8, 8), [200]),
    "ip: identification, counting": (identified(0, 8, 9), [200]),
    "ip: identification, fixed": (identified(0, 8, 8), [100, 100]),
    # Where the kernel is stricter than it must be: with DF the number means nothing.
    "ip: identification, DF, counting then fixed": (identified(DF, 8, 9, 9), [300]),
    "ip: identification, DF, fixed then counting": (identified(DF, 8, 8, 9), [300]),
    "large: as much as fits": (large(REST), [65535 - 40, REST]),
    "large: one byte more": (large(REST + 1), [FULL * MSS, REST + 1, REST + 1]),
}


@pytest.mark.parametrize("case", KERNEL_CASES)
def test_kernel_selftest(case: str) -> None:
    """Lengths of payload in the frames, as gro.c expects them."""
    packets, lengths = KERNEL_CASES[case]
    with both(mtu=4096, offloads=ALL) as (native, python):
        assert isinstance(native, FastPath)
        frames = native.unwrap_frames(bursts_of(packets, together=False))
        check_same(frames, python.unwrap(bursts_of(packets, together=False)))
    headers = [
        (f.data[0] & 15) * 4 + (f.data[(f.data[0] & 15) * 4 + 12] >> 4) * 4
        for f in frames
    ]
    assert [len(f.data) - h for f, h in zip(frames, headers, strict=True)] == lengths
