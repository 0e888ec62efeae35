"""What goes over the border between kernel and userspace is counted, where it goes."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from flannelette.dataplane.drivers import DRIVERS
from flannelette.dataplane.forwarder import Endpoint, Forwarder
from flannelette.dataplane.underlay import open_underlay
from flannelette.encap.drop import Drop
from flannelette.native.api import Counters, Direction, Offload, Route
from tests.helpers.bench import bench, drain
from tests.helpers.freshnet import in_fresh_net, ip as ip_tool
from tests.helpers.ns import needs_namespaces
from tests.helpers.packets import MTU, TUN_ADDRESS, packet
from tests.helpers.streams import udp_packet

datapaths = pytest.mark.parametrize("datapath", ["native", "python"])
PACKET = packet(payload=bytes(100))
SIZE = len(PACKET)
BATCH = 64
SO_NO_CHECK = 11


def crossings(counters: Counters) -> tuple[int, ...]:
    return (
        counters.frames,
        counters.frame_bytes,
        counters.tun_calls,
        counters.messages,
        counters.message_bytes,
        counters.wire_calls,
        counters.pumps,
    )


@datapaths
def test_tx(datapath: str) -> None:
    """The read that finds nothing is a call, too. PurePath sends one by one."""
    with bench(datapath, BATCH) as it:
        for _ in range(8):
            it.kernel.send(PACKET)
        it.path.pump(Direction.TX, 100)
        calls = 1 if datapath == "native" else 8
        counted = crossings(it.path.counters(Direction.TX))
        assert counted == (8, 8 * SIZE, 9, 8, 8 * SIZE, calls, 1)
        it.path.pump(Direction.TX, 100)
        counted = crossings(it.path.counters(Direction.TX))
        assert counted == (8, 8 * SIZE, 10, 8, 8 * SIZE, calls, 2)
        assert crossings(it.path.counters(Direction.RX)) == (0,) * 7


@datapaths
def test_rx(datapath: str) -> None:
    """What is dropped was moved, too; a receive that is not full needs no second."""
    with bench(datapath, BATCH) as it:
        for data in (PACKET, b"no packet", PACKET):
            it.peer.sendto(data, it.underlay.getsockname())
        it.path.pump(Direction.RX, 100)
        calls = 1 if datapath == "native" else 4
        counted = crossings(it.path.counters(Direction.RX))
        assert counted == (2, 2 * SIZE, 2, 3, 2 * SIZE + 9, calls, 1)


@datapaths
def test_an_answer_is_a_frame(datapath: str) -> None:
    nowhere = packet(destination="10.9.9.9")
    with bench(datapath, BATCH) as it:
        it.kernel.send(nowhere)
        it.path.pump(Direction.TX, 100)
        (answer,) = drain(it.kernel)
        counted = crossings(it.path.counters(Direction.TX))
        assert counted == (2, len(nowhere) + len(answer), 3, 0, 0, 0, 1)


@datapaths
def test_what_failed_has_moved_nothing(datapath: str) -> None:
    """A broadcast address that the socket may not send to."""
    with bench(datapath, BATCH) as it:
        it.path.set_routes([it.route._replace(address=0xFFFFFFFF)])
        it.kernel.send(PACKET)
        it.path.pump(Direction.TX, 100)
        counters = it.path.counters(Direction.TX)
        assert counters.drops[Drop.SEND_FAILED] == 1
        assert crossings(counters) == (1, SIZE, 2, 0, 0, 1, 1)
        it.kernel.close()  # the TUN is gone: writes fail
        it.peer.sendto(PACKET, it.underlay.getsockname())
        it.path.pump(Direction.RX, 100)
        counters = it.path.counters(Direction.RX)
        assert counters.drops[Drop.WRITE_FAILED] == 1
        assert (counters.frames, counters.tun_calls, counters.messages) == (0, 1, 1)


def test_a_burst_is_one_message() -> None:
    """Packets by messages: the mean number of segments."""
    with bench("native", BATCH, Offload.GSO) as it:
        for _ in range(8):
            it.kernel.send(PACKET)
        it.path.pump(Direction.TX, 100)
        counters = it.path.counters(Direction.TX)
        assert counters.packets / counters.messages == 8
        assert crossings(counters) == (8, 8 * SIZE, 9, 1, 8 * SIZE, 1, 1)


def test_single_datagrams_in_a_burst_s_place_are_counted_each() -> None:
    """The kernel refuses UDP_SEGMENT on a socket that makes no checksums: then each
    datagram goes by a call of its own, after the one that failed."""
    with bench("native", BATCH, Offload.GSO) as it:
        it.underlay.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        for _ in range(3):
            it.kernel.send(PACKET)
        it.path.pump(Direction.TX, 100)
        counters = it.path.counters(Direction.TX)
        assert counters.packets == 3
        assert crossings(counters)[3:6] == (3, 3 * SIZE, 1 + 3)


def test_sums() -> None:
    one = Counters(1, 2, 3, 4, (5, 6), 7, 8, 9, 10, 11, 12, 13)
    two = Counters(2, 4, 6, 8, (10, 12), 14, 16, 18, 20, 22, 24, 26)
    assert one + one == two
    assert Counters.zero(2) + one == one
    with pytest.raises(ValueError, match="shorter"):
        one + replace(one, drops=(1,))


# ---- a real TUN ----------------------------------------------------------------------

UDP_SEGMENT = 103
SEGMENT, SEGMENTS = 1000, 10
HEADERS = 28
"""Bytes of IPv4's header and UDP's."""
INNER = SEGMENTS * (HEADERS + SEGMENT)
WHOLE = 10 + HEADERS + SEGMENTS * SEGMENT
"""Bytes of the superpacket, behind its virtio header."""


@needs_namespaces
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_superpacket_is_one_frame_and_one_message(driver: str) -> None:
    """Through a real TUN and real sockets, in either direction."""

    async def use() -> None:
        ip_tool("link set lo up")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((str(LOOPBACK), 0))
            underlay = open_underlay(LOOPBACK, 0)
            ours = underlay.rx[0].getsockname()
            forwarder = Forwarder(underlay, "native", driver)
            try:
                start(forwarder, peer.getsockname()[1])
                if WANTED & ~forwarder.offloads:
                    pytest.skip(f"the kernel grants only {forwarder.offloads!r}")
                await check_tx(forwarder)
                await check_rx(forwarder, peer, ours)
            finally:
                forwarder.close()

    in_fresh_net(use)


LOOPBACK = IPv4Address("127.0.0.1")
WANTED = Offload.VNET | Offload.MERGE_UDP | Offload.GSO | Offload.GRO


def start(forwarder: Forwarder, port: int) -> None:
    def fail(error: OSError) -> None:
        raise AssertionError(error)

    for switch in Path("/proc/sys/net/ipv6/conf").glob("default/disable_ipv6"):
        switch.write_text("1")  # solicitations would be counted
    tun = forwarder.open_tun()
    ip_tool(
        f"link set {tun.name} mtu {MTU} up",
        f"address add {TUN_ADDRESS}/32 dev {tun.name}",
        f"route add 10.5.0.0/16 dev {tun.name}",
    )
    forwarder.set_routes([Route.to(IPv4Network("10.5.2.0/24"), LOOPBACK, port)])
    forwarder.start(tun, Endpoint(TUN_ADDRESS, MTU), fail)


async def forwarded(forwarder: Forwarder, direction: Direction) -> Counters:
    """Once all the superpacket's packets are, and the last call has found nothing."""
    async with asyncio.timeout(10):
        while True:
            counters = forwarder.counters(direction)
            emptied = direction is Direction.RX or counters.tun_calls > counters.frames
            if counters.packets == SEGMENTS and emptied:
                return counters
            await asyncio.sleep(0.005)  # counters tell nobody


async def check_tx(forwarder: Forwarder) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as app:
        app.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT)
        app.sendto(bytes(SEGMENT * SEGMENTS), ("10.5.2.2", 9))
    tx = await forwarded(forwarder, Direction.TX)
    assert (tx.packets, tx.bytes) == (SEGMENTS, INNER)
    assert (tx.frames, tx.frame_bytes) == (1, WHOLE)
    assert tx.tun_calls == 2, "one that found nothing"
    assert (tx.messages, tx.message_bytes, tx.wire_calls) == (1, INNER, 1)
    assert tx.pumps == 1


async def check_rx(
    forwarder: Forwarder, peer: socket.socket, ours: tuple[str, int]
) -> None:
    data = udp_packet(bytes(SEGMENT), destination=str(TUN_ADDRESS))
    peer.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(data))
    peer.sendto(data * SEGMENTS, ours)
    rx = await forwarded(forwarder, Direction.RX)
    assert (rx.packets, rx.bytes) == (SEGMENTS, INNER)
    assert (rx.messages, rx.message_bytes, rx.wire_calls) == (1, INNER, 1)
    assert (rx.frames, rx.frame_bytes, rx.tun_calls) == (1, WHOLE, 1)
    assert rx.pumps == 1
