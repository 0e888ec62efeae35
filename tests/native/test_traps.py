"""Traps of offloading that the random streams hit, each once by hand and by its name.

The numbers are those of test_offload.py, which has the others; trap 18 is
test_differential.py.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from flannelette.encap import ip
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    NEEDS_CSUM,
    Burst,
    Direction,
    Frame,
    Offload,
    Route,
    Vnet,
)
from flannelette.native.fastpath import FastPath
from tests.helpers.bench import Bench, bench, drain
from tests.helpers.packets import ROUTE, with_checksum
from tests.helpers.streams import (
    ACK,
    CWR,
    ECE,
    FIN,
    PSH,
    RST,
    SYN,
    UDP,
    URG,
    cut,
    l4_checksum,
    partial,
    superpacket,
    tcp_packet,
    udp_packet,
)
from tests.helpers.twins import both, datagrams

ALL = Offload.VNET | Offload.MERGE_TCP | Offload.MERGE_UDP | Offload.GSO | Offload.GRO
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
MOST_BYTES = 65507


@contextmanager
def offloading() -> Iterator[FastPath]:
    with both(offloads=ALL) as (native, _):
        assert isinstance(native, FastPath)
        native.set_routes([ROUTE])
        yield native


def split(frame: Frame) -> list[bytes]:
    with offloading() as native:
        return [data for _, _, data in datagrams(native.wrap_frames([frame], 0)[0])]


def merged(packets: list[bytes]) -> list[list[bytes]]:
    """The packets that each frame stands for."""
    with offloading() as native:
        bursts = [Burst(data, len(data), 1, 1) for data in packets]
        return [cut(frame) for frame in native.unwrap_frames(bursts)]


def hopped(packet: bytes) -> bytes:
    return with_checksum(packet[:8] + bytes([packet[8] - 1]) + packet[9:])


# ---- splitting -----------------------------------------------------------------------


def test_a_partial_checksum_is_finished_trap_2() -> None:
    """Of a SYN, too, and whatever the frame is: a node without offloads verifies it."""
    for packet in (
        tcp_packet(b"", flags=SYN),
        tcp_packet(b"x", ip_options=b"\1" * 4),
        udp_packet(b"odd"),
    ):
        header = (packet[0] & 0xF) * 4
        vnet = Vnet(NEEDS_CSUM, 0, 0, 0, header, 16 if packet[9] != UDP else 6)
        assert split(Frame(partial(packet, header), vnet)) == [hopped(packet)]


def zero_sum(length: int) -> bytes:
    """A UDP packet whose checksum comes out as 0, which must be sent as 0xffff."""
    packet = udp_packet(bytes(length))
    rest = struct.unpack_from("!H", packet, 26)[0]
    packet = l4_checksum(packet[:-2] + struct.pack("!H", rest), 20)
    assert packet[26:28] == b"\xff\xff"
    return packet


def test_a_udp_checksum_is_never_0_trap_2() -> None:
    packet = zero_sum(100)
    single = Frame(partial(packet, 20), Vnet(NEEDS_CSUM, 0, 0, 0, 20, 6))
    assert split(single) == [hopped(packet)]
    whole = superpacket(udp_packet(packet[28:] * 3), 100)
    assert [data[26:28] for data in split(whole)] == [b"\xff\xff"] * 3


def test_split_counts_identifications_over_65535_trap_4() -> None:
    packets = split(superpacket(tcp_packet(bytes(300), identification=65534), 100))
    assert [p[4:6] for p in packets] == [b"\xff\xfe", b"\xff\xff", b"\0\0"]


def test_a_superpacket_takes_one_hop_and_keeps_its_marks_trap_5() -> None:
    frame = superpacket(tcp_packet(bytes(300), ttl=9, tos=0xB8 | 3), 100)
    for packet in split(frame):
        header = ip.parse(packet)
        assert (header.ttl, packet[1], packet[6]) == (8, 0xBB, 0x40)


def flags_of(packets: list[bytes]) -> list[int]:
    return [packet[33] for packet in packets]


def test_cwr_is_the_first_ones_alone_trap_6() -> None:
    frame = superpacket(tcp_packet(bytes(300), flags=ACK | CWR | ECE), 100)
    assert flags_of(split(frame)) == [ACK | CWR | ECE, ACK | ECE, ACK | ECE]
    ecn = frame._replace(vnet=frame.vnet._replace(gso_type=frame.vnet.gso_type | 0x80))
    assert split(ecn) == split(frame)


def test_fin_and_psh_are_the_last_ones_alone_trap_7() -> None:
    frame = superpacket(tcp_packet(bytes(300), flags=ACK | FIN | PSH), 100)
    assert flags_of(split(frame)) == [ACK, ACK, ACK | FIN | PSH]


# ---- merging -------------------------------------------------------------------------


def test_ece_is_kept_in_a_run_of_its_own_trap_6() -> None:
    flags = [ACK, ACK, ACK | ECE, ACK | ECE, ACK]
    packets = [
        tcp_packet(bytes(9), sequence=9 * i, flags=f) for i, f in enumerate(flags)
    ]
    assert [flags_of(frame) for frame in merged(packets)] == [
        [ACK] * 2, [ACK | ECE] * 2, [ACK]
    ]  # fmt: skip


def test_cwr_is_never_merged_trap_6() -> None:
    packets = [tcp_packet(bytes(9), 9 * i, flags=ACK | CWR) for i in range(3)]
    assert [len(frame) for frame in merged(packets)] == [1, 1, 1]


def test_reserved_bits_are_never_merged_trap_6() -> None:
    """The one beside CWR is AccECN's counter (RFC 9768)."""
    plain = [tcp_packet(bytes(9), sequence=9 * i) for i in range(3)]
    marked = [l4_checksum(p[:32] + bytes([p[32] | 1]) + p[33:], 20) for p in plain]
    assert [len(frame) for frame in merged(marked)] == [1, 1, 1]


def test_without_acknowledgement_nothing_is_merged_trap_7() -> None:
    packets = [tcp_packet(bytes(9), sequence=9 * i, flags=0) for i in range(3)]
    assert [len(frame) for frame in merged(packets)] == [1, 1, 1]


@pytest.mark.parametrize("mixed", [(0, 1), (1, 2), (2, 3), (0, 3)])
def test_congestion_marks_are_neither_made_nor_lost_trap_5(
    mixed: tuple[int, int],
) -> None:
    packets = [tcp_packet(bytes(9), 9 * i, tos=mixed[i % 2]) for i in range(4)]
    assert [p[1] for frame in merged(packets) for p in frame] == [*mixed, *mixed]


@pytest.mark.parametrize(
    "seal",
    [
        {"flags": SYN | ACK},
        {"flags": FIN | ACK},
        {"flags": RST},
        {"flags": URG | ACK},
        {"fragment": 0x2000},
        {"ip_options": b"\1" * 4},
        {"payload": b""},
    ],
    ids=str,
)
def test_what_cannot_be_merged_is_verbatim_and_overtaken_by_nothing_traps_7_9(
    seal: dict[str, Any],
) -> None:
    """Though the packet behind it would continue the run before it."""
    first, second, fourth = (tcp_packet(bytes(9), sequence=9 * i) for i in range(3))
    changes = {"payload": bytes(9), "sequence": 18, **seal}
    third = tcp_packet(**changes)
    frames = merged([first, second, third, fourth])
    assert frames[0] == [hopped(first), *frames[0][1:]]
    assert len(frames[0]) == 2
    assert frames[1] == [hopped(third)]
    assert frames[2] == [hopped(fourth)]


def test_fragments_are_not_merged_trap_7() -> None:
    """However much one looks like the other's continuation."""
    for fragment in (0x2000, 0x2000 | 185, 185):
        packets = [
            tcp_packet(bytes(9), 9 * i, identification=i, fragment=fragment)
            for i in range(3)
        ]
        assert [len(frame) for frame in merged(packets)] == [1, 1, 1]


def test_no_checksum_is_not_a_sound_one_trap_2() -> None:
    """0 says that there is none, even where the sum would come to that."""
    packet = zero_sum(100)
    none = packet[:26] + b"\0\0" + packet[28:]
    assert merged([none, none]) == [[hopped(none)], [hopped(none)]]


def test_a_shorter_udp_datagram_is_the_last_of_its_run_trap_10() -> None:
    sizes = [100, 100, 99, 100, 100, 101, 0, 101]
    frames = merged([udp_packet(bytes(size)) for size in sizes])
    assert [[len(p) - 28 for p in frame] for frame in frames] == [
        [100, 100, 99], [100, 100], [101], [0], [101]
    ]  # fmt: skip


# ---- what one system call may carry --------------------------------------------------


def to_kernel(it: Bench, frame: Frame) -> None:
    it.kernel.send(struct.pack("=BBHHHH", *frame.vnet) + frame.data)


@pytest.mark.parametrize(
    ("size", "segment", "messages"),
    [
        (64 * 100, 100, [64]),  # as many datagrams as go
        (100 * 100, 100, [64, 36]),
        (45 * 1400, 1400, [45]),
        (65495, 1400, [45, 2]),  # with headers, beyond what one IPv4 packet holds
        (53 * 1220, 1220, [51, 2]),  # the 52nd would be 65,520 bytes: UDP's header is 8
    ],
)
def test_what_one_message_carries_trap_11(
    size: int, segment: int, messages: list[int]
) -> None:
    """Over loopback what was one message arrives as one."""
    with bench(offloads=ALL) as it:
        it.peer.setsockopt(SOL_UDP, UDP_GRO, 1)
        to_kernel(it, superpacket(tcp_packet(bytes(size)), segment))
        it.path.pump(Direction.TX, 10)
        received = drain(it.peer)
        assert max(map(len, received)) <= MOST_BYTES
        assert [-(-len(data) // (segment + 40)) for data in received] == messages
        assert it.path.offloads() == ALL


def test_a_dead_peer_costs_the_others_nothing_trap_12() -> None:
    """That its port is unreachable is told to nobody's next send."""
    with bench(offloads=ALL) as it:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            port = gone.getsockname()[1]
        there = IPv4Network("10.5.3.0/24")
        dead = Route.to(there, IPv4Address("127.0.0.1"), port)
        it.path.set_routes([dead])
        lost = tcp_packet(b"lost", destination="10.5.3.2")
        for _ in range(3):
            for packet in (lost, tcp_packet(b"kept"), lost):
                to_kernel(it, Frame(packet, Vnet(0, 0, 0, 0, 0, 0)))
            it.path.pump(Direction.TX, 10)
        assert len(drain(it.peer)) == 3
        assert sum(it.path.counters(Direction.TX).drops) == 0


def test_a_receive_holds_all_that_can_come_trap_13() -> None:
    """And what comes behind a longer one is not cut by its size."""
    packets = [tcp_packet(bytes(1400), sequence=1400 * i) for i in range(45)]
    single = udp_packet(b"alone")
    with bench(offloads=ALL) as it:
        it.underlay.setsockopt(SOL_UDP, UDP_GRO, 1)
        control = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", 1440))]
        it.peer.sendmsg([b"".join(packets)], control, 0, it.underlay.getsockname())
        it.peer.sendto(single, it.underlay.getsockname())
        assert it.path.pump(Direction.RX, 10) == 2
        counters = it.path.counters(Direction.RX)
        assert (counters.packets, sum(counters.drops)) == (46, 0)
        frames = drain(it.kernel)
        assert [len(frame) - 10 for frame in frames] == [45 * 1400 + 40, len(single)]


def test_a_size_that_cuts_through_packets_makes_none_of_them_trap_13() -> None:
    """Each piece has to be a packet by its own header."""
    packets = [tcp_packet(bytes(100), sequence=100 * i) for i in range(3)]
    data = b"".join(packets)
    with offloading() as native:
        for segment in (139, 141, len(data)):
            frames = native.unwrap_frames([Burst(data, segment, 1, 1)])
            assert all(
                packet == hopped(packets[0]) for f in frames for packet in cut(f)
            )
            assert len(frames) == (segment > 140)
        drops = native.counters(Direction.RX).drops
        assert sum(drops) > 0
        assert drops[Drop.BAD_LENGTH] > 0
