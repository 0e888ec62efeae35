"""What an observer is told of packets, and by which numbers that belongs together."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from flannelette.dataplane.path import Path
from flannelette.encap import probe
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    EVENT,
    Burst,
    Direction,
    EventKind,
    Frame,
    Offload,
    PathConfig,
    PeerCheck,
    Route,
    Watch,
)
from flannelette.native.fastpath import FastPath
from tests.helpers import pcap
from tests.helpers.bench import THERE, bench, drain
from tests.helpers.packets import MTU, TUN_ADDRESS, packet
from tests.helpers.streams import tcp_packet
from tests.helpers.vxlans import OWN, vxlan

CONFIG = PathConfig(-1, -1, -1, mtu=MTU, address=int(TUN_ADDRESS))
PEER = IPv4Address("192.0.2.2")
ROUTE = Route.to(THERE, PEER, 8285)
FULL = 65535


class Told:
    """One event."""

    def __init__(self, record: bytes) -> None:
        fields = EVENT.unpack_from(record)
        self.time, high, low, self.size, self.number, self.packets, self.into = fields[
            :7
        ]
        self.length, self.captured, self.port, self.version = fields[7:11]
        self.kind, self.drop = EventKind(fields[11]), Drop(fields[12])
        self.direction, self.outer = Direction(fields[13]), bool(fields[14])
        self.address = high << 64 | low
        self.data = record[EVENT.size : EVENT.size + self.captured]


def events(records: bytes) -> Iterator[Told]:
    while records:
        told = Told(records)
        assert told.size % 8 == 0
        assert told.size - EVENT.size - told.captured in range(8)
        yield told
        records = records[told.size :]


def told(path: Path, direction: Direction) -> list[Told]:
    records, lost = path.watched(direction)
    assert lost == 0
    return list(events(records))


@pytest.fixture
def path() -> Iterator[FastPath]:
    made = FastPath(replace(CONFIG, peer_check=PeerCheck.PEER))
    made.set_routes([ROUTE])
    made.watch(Watch(snap=FULL))
    yield made
    made.close()


def kinds(those: Sequence[Told]) -> list[EventKind]:
    return [each.kind for each in those]


def test_a_packet_on_its_way_out(path: FastPath) -> None:
    data = packet("10.5.1.2", "10.5.2.2", b"payload")
    path.wrap_frames([Frame(data)], 0)
    read, routed, wrapped = those = told(path, Direction.TX)
    assert kinds(those) == [EventKind.READ, EventKind.ROUTED, EventKind.WRAPPED]
    assert read.data == data
    assert (read.version, read.outer) == (0, False)
    assert (routed.address, routed.port, routed.version) == (int(PEER), 8285, 4)
    assert routed.data == b""
    assert (wrapped.number, wrapped.packets) == (0, 1)
    assert told(path, Direction.RX) == []


def test_a_packet_without_a_route(path: FastPath) -> None:
    data = packet("10.5.1.2", "10.5.9.9", b"payload")
    path.wrap_frames([Frame(data), Frame(data)], 0)
    those = told(path, Direction.TX)
    assert kinds(those) == [EventKind.READ, EventKind.DROPPED] * 2
    assert [each.number for each in those] == [0, 0, 1, 1]
    assert those[1].drop is Drop.NO_ROUTE
    assert those[1].data == data


def test_a_packet_on_its_way_in(path: FastPath) -> None:
    data = packet("10.5.2.2", "10.5.1.2", b"payload")
    path.unwrap_frames([Burst(data * 2, len(data), int(PEER), 8285)])
    those = told(path, Direction.RX)
    each = [EventKind.RECEIVED, EventKind.CHECKED, EventKind.UNWRAPPED]
    assert kinds(those) == each * 2
    assert [one.number for one in those] == [0] * 3 + [1] * 3
    assert those[0].data == data
    assert (those[0].outer, those[0].address, those[0].port) == (True, int(PEER), 8285)


def test_a_stranger(path: FastPath) -> None:
    data = packet("10.5.2.2", "10.5.1.2", b"payload")
    path.unwrap_frames([Burst(data * 2 + data[:5], len(data), int(PEER) + 1, 8285)])
    those = told(path, Direction.RX)
    assert kinds(those) == [EventKind.RECEIVED, EventKind.DROPPED] * 3
    assert {each.drop for each in those[1::2]} == {Drop.UNKNOWN_PEER}
    assert [each.data for each in those[::2]] == [data, data, data[:5]]


def test_only_what_was_asked_for(path: FastPath) -> None:
    path.unwatch()
    wanted = 1 << EventKind.READ | 1 << EventKind.DROPPED
    path.watch(Watch(pcap.compiled("udp"), snap=20, kinds=wanted, epoch=7))
    other = packet("10.5.1.2", "10.5.2.2", bytes(20), protocol=6)
    datagram = packet("10.5.1.2", "10.5.2.2", bytes(20), protocol=17)
    path.wrap_frames([Frame(other), Frame(datagram)], 0)
    (read,) = told(path, Direction.TX)
    assert (read.number, read.length, read.data) == (1, 40, datagram[:20])
    assert read.time < time.monotonic_ns() + 7 < read.time + 60e9


def test_through_the_pumps() -> None:
    with bench() as it:
        it.path.watch(Watch(snap=FULL))
        out = packet("10.5.1.2", "10.5.2.2", b"payload")
        for data in (out, packet("10.5.1.2", "10.5.9.9", b"payload"), out):
            it.kernel.send(data)
        it.path.pump(Direction.TX, 10)
        those = told(it.path, Direction.TX)
        way = [EventKind.READ, EventKind.ROUTED, EventKind.WRAPPED]
        lost = [EventKind.READ, EventKind.DROPPED]
        sent = [EventKind.SENT] * 2
        assert kinds(those) == [*way, *lost, *way, *sent, EventKind.WRITTEN]
        assert [each.number for each in those[-3:]] == [0, 2, 1]
        assert those[-2].data == drain(it.peer)[1]
        assert those[-2].port == it.peer.getsockname()[1]
        assert those[-1].data == drain(it.kernel)[0]  # our ICMP error
        assert 0 < those[0].time <= those[-1].time

        it.peer.sendto(out, it.underlay.getsockname())
        it.path.pump(Direction.RX, 10)
        received, unwrapped, written = told(it.path, Direction.RX)
        assert received.port == it.peer.getsockname()[1]
        assert unwrapped.kind is EventKind.UNWRAPPED
        assert written.kind is EventKind.WRITTEN
        assert written.data == drain(it.kernel)[0]


def test_what_the_kernel_does_not_take() -> None:
    with bench() as it:
        it.path.watch(Watch())
        it.path.set_routes([it.route._replace(address=int(IPv4Address("0.0.0.1")))])
        it.kernel.send(packet("10.5.1.2", "10.5.2.2", b"payload"))
        it.path.pump(Direction.TX, 10)
        last = told(it.path, Direction.TX)[-1]
        assert (last.kind, last.drop) == (EventKind.DROPPED, Drop.SEND_FAILED)
        it.kernel.shutdown(socket.SHUT_RD)
        it.peer.sendto(packet("10.5.2.2", "10.5.1.2", b""), it.underlay.getsockname())
        it.path.pump(Direction.RX, 10)
        last = told(it.path, Direction.RX)[-1]
        assert (last.kind, last.drop) == (EventKind.DROPPED, Drop.WRITE_FAILED)


def test_an_error_of_ours_that_is_not_taken_is_no_drop() -> None:
    with bench() as it:
        it.path.watch(Watch())
        it.kernel.shutdown(socket.SHUT_RD)
        it.kernel.send(packet("10.5.1.2", "10.5.9.9", b"payload"))
        it.path.pump(Direction.TX, 10)
        last = told(it.path, Direction.TX)
        assert kinds(last) == [EventKind.READ, EventKind.DROPPED]
        assert sum(it.path.counters(Direction.TX).drops) == 1


def test_what_finds_no_room_is_counted_and_the_rest_is_whole(path: FastPath) -> None:
    data = packet("10.5.2.2", "10.5.1.2", bytes(1000))
    burst = Burst(data * 60, len(data), int(PEER), 8285)
    rounds = read = lost = 0
    while rounds < 200 or not lost:
        path.unwrap_frames([burst])
        rounds += 1
        if rounds % 7 == 0:  # a slow reader, whose room never fits
            records, lost = path.watched(Direction.RX, 100_001)
            read += len(list(events(records)))
    while records := path.watched(Direction.RX)[0]:
        read += len(list(events(records)))
    assert read + path.watched(Direction.RX)[1] == rounds * 60 * 3


def test_one_observer(path: FastPath) -> None:
    with pytest.raises(OSError, match="busy") as refused:
        path.watch(Watch())
    assert refused.value.errno == errno.EBUSY
    path.unwatch()
    path.unwatch()
    with pytest.raises(OSError, match="nobody watches"):
        path.watched(Direction.TX)
    path.wrap_frames([Frame(packet("10.5.1.2", "10.5.2.2", b""))], 0)
    path.watch(Watch())
    assert told(path, Direction.TX) == []


def test_observers_come_and_go_beside_the_pumps() -> None:
    """Under the sanitizers: nobody looks at what is freed."""
    with bench() as it:
        data = packet("10.5.1.2", "10.5.2.2", bytes(100))
        ended = threading.Event()

        def pump() -> None:
            while not ended.is_set():
                it.kernel.send(data)
                it.path.pump(Direction.TX, 10)
                drain(it.peer)

        thread = threading.Thread(target=pump)
        thread.start()
        try:
            seen, program = 0, pcap.compiled("ip")
            for _ in range(300):
                it.path.watch(Watch(program, snap=FULL))
                seen += len(told(it.path, Direction.TX))
                it.path.unwatch()
        finally:
            ended.set()
            thread.join()
        assert seen


def tcp(sequence: int) -> bytes:
    return tcp_packet(bytes(100), sequence, destination="10.5.1.2")


def test_numbers_of_a_frame_follow_one_another() -> None:
    """What is dropped or replied to has a number, so it ends the frame before it."""
    offloads = Offload.VNET | Offload.MERGE_TCP
    path = FastPath(replace(CONFIG, offloads=offloads))
    path.watch(Watch())
    try:
        for between in (b"no packet", probe.request(bytes(8))):
            packets = [tcp(1000), tcp(1100), between, tcp(1200), tcp(1300)]
            path.unwrap_frames([Burst(each, 2000, int(PEER), 1) for each in packets])
            those = told(path, Direction.RX)
            merged = [each for each in those if each.kind is EventKind.MERGED]
            assert len(merged) == 2
            assert all(each.number == each.into + 1 for each in merged)
    finally:
        path.close()


def test_a_superpacket_is_told_as_it_was_received() -> None:
    """Though its checksum is left to the kernel then."""
    offloads = Offload.VNET | Offload.MERGE_TCP
    path = FastPath(replace(CONFIG, offloads=offloads, vxlan=OWN))
    path.watch(Watch(snap=FULL))
    try:
        datagram = vxlan(tcp_packet(bytes(5000), destination="10.5.1.2"))
        assert len(path.unwrap_frames([Burst(datagram, 1000, int(PEER), 1)])) == 1
        received, unwrapped = told(path, Direction.RX)
        assert received.data == datagram
        assert (unwrapped.kind, unwrapped.packets) == (EventKind.UNWRAPPED, 5)
    finally:
        path.close()
