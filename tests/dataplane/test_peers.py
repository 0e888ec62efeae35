"""What each peer was sent and has sent is counted, by its address: both twins."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.dataplane.forwarder import Endpoint, Forwarder
from flannelette.dataplane.path import Path
from flannelette.dataplane.underlay import open_underlay
from flannelette.native.api import (
    Burst,
    Direction,
    PathConfig,
    PeerCheck,
    PeerCounters,
    Route,
)
from flannelette.native.fastpath import FastPath
from flannelette.tun.device import TunDevice
from tests.helpers.bench import bench
from tests.helpers.ipv6 import packet6
from tests.helpers.packets import MTU, PEER, ROUTE, TUN_ADDRESS, packet
from tests.helpers.streams import superpacket, tcp_packet
from tests.helpers.tunnels import PEER6, from_peer, tunnels
from tests.helpers.twins import both, counts
from tests.helpers.vxlans import vxlan

FIRST, SECOND = int(PEER), int(PEER) + 1
PACKET = packet()
SIZE = len(PACKET)


def to(third: int, address: int) -> Route:
    """10.5.THIRD.0/24 by that peer."""
    network = IPv4Network(f"10.5.{third}.0/24")
    return Route.to(network, IPv4Address(address), 8285)


def sent_to(third: int) -> bytes:
    return packet(destination=f"10.5.{third}.2")


def came_from(address: int, data: bytes = PACKET, segment: int = SIZE) -> Burst:
    return Burst(data, segment, address, 8285)


def test_by_the_peer_s_address_not_by_route() -> None:
    with both() as paths:
        for path in paths:
            assert path.peers() == []
            path.set_routes([to(2, FIRST), to(3, FIRST), to(4, SECOND)])
            path.wrap([sent_to(2), sent_to(3), sent_to(3), sent_to(4), sent_to(9)], 0)
            path.unwrap([came_from(SECOND)], 5)
            path.unwrap([came_from(SECOND, PACKET * 2 + PACKET[:4])], 7)
            assert sorted(path.peers()) == [
                PeerCounters(FIRST, 4, 3, 3 * SIZE, 0, 0, 0),
                PeerCounters(SECOND, 4, 1, SIZE, 4, 3 * SIZE + 4, 7),
            ]
            assert path.peers()[0].peer in {PEER, PEER + 1}


@pytest.mark.parametrize("check", PeerCheck)
def test_strangers_are_not_counted_and_known_ones_with_any_check(
    check: PeerCheck,
) -> None:
    with both(peer_check=check) as paths:
        for path in paths:
            path.set_routes([ROUTE])
            path.unwrap([came_from(SECOND), came_from(FIRST)], 3)
            assert path.peers() == [PeerCounters(FIRST, 4, 0, 0, 1, SIZE, 3)]


def test_vxlan_s_headers_are_not_counted_and_versions_are_apart() -> None:
    data = packet6()
    with tunnels() as paths:
        for path in paths:
            path.wrap([PACKET, data], 0)
            path.unwrap([from_peer(vxlan(PACKET)), from_peer(b"short", outer=6)], 9)
            assert sorted(path.peers()) == [
                PeerCounters(int(PEER), 4, 1, SIZE, 1, SIZE, 9),
                PeerCounters(int(PEER6), 6, 1, len(data), 1, 0, 9),
            ]
            assert {one.peer for one in path.peers()} == {PEER, PEER6}


def test_a_superpacket_is_sent_as_packets_and_came_as_one_datagram() -> None:
    big = tcp_packet(bytes(5000), destination="10.5.2.2")
    frame = superpacket(big, 1000)
    with tunnels() as (native, _):
        assert isinstance(native, FastPath)
        native.wrap_frames([frame], 0)
        one = next(one for one in native.peers() if one.outer == 4)
        assert (one.tx_packets, one.tx_bytes) == (5, 5000 + 5 * 40)
    with tunnels() as paths:
        for path in paths:
            path.unwrap([from_peer(vxlan(big))], 1)
            (one,) = (one for one in path.peers() if one.outer == 4)
            assert (one.rx_packets, one.rx_bytes) == (1, len(big))


def test_what_finds_no_room_at_first_is_counted_once() -> None:
    """The output of a pump is full before the superpacket: it is unwrapped again."""
    big = superpacket(tcp_packet(bytes(40000), destination="10.5.1.2"), 1000)
    burst = from_peer(vxlan(big.data), 0)
    with tunnels() as (native, python):
        for path in (native, python):
            path.unwrap([burst] * 4, 1)
        assert counts(native) == counts(python)


def test_counters_last_as_long_as_a_route_leads_there() -> None:
    with both() as paths:
        for path in paths:
            path.set_routes([to(2, FIRST), to(3, FIRST)])
            path.wrap([sent_to(2)], 0)
            path.del_routes([to(2, FIRST)])
            path.set_routes([to(3, FIRST), to(4, SECOND)])
            path.wrap([sent_to(3)], 0)
            assert [one[:3] for one in sorted(path.peers())] == [
                (FIRST, 4, 2),
                (SECOND, 4, 0),
            ]
            path.set_routes([to(3, SECOND)])
            assert [one.address for one in path.peers()] == [SECOND]
            path.set_routes([to(3, FIRST)])
            assert sorted(path.peers())[0] == PeerCounters(FIRST), "it begins again"


few = st.integers(2, 5)
steps = st.one_of(
    st.tuples(st.just("set"), st.lists(st.builds(to, few, few), max_size=4)),
    st.tuples(st.just("del"), st.lists(st.builds(to, few, few), max_size=4)),
    st.tuples(st.just("tx"), st.lists(st.builds(sent_to, few), max_size=4)),
    st.tuples(st.just("rx"), st.lists(st.builds(came_from, few), max_size=4)),
)


@settings(max_examples=200)
@given(st.lists(steps, max_size=20))
def test_peers_that_come_and_go(way: list[tuple[str, list]]) -> None:  # type: ignore[type-arg]
    """Numbers are given again: nobody gets another's counts."""
    with both() as (native, python):
        for now, (what, some) in enumerate(way):
            for path in (native, python):
                take_step(path, what, some, now)
            assert counts(native) == counts(python)


def take_step(path: Path, what: str, some: list, now: int) -> None:  # type: ignore[type-arg]
    steps: dict[str, Callable[[], object]] = {
        "set": lambda: path.set_routes(some),
        "del": lambda: path.del_routes(some),
        "tx": lambda: path.wrap(some, now),
        "rx": lambda: path.unwrap(some, now),
    }
    steps[what]()


def test_many_peers_have_counters_of_their_own() -> None:
    """More than one chunk of them holds; then half of them are others."""
    path = FastPath(PathConfig(-1, -1, -1, mtu=MTU, address=int(TUN_ADDRESS)))
    routes = [Route(10 << 24 | n << 8, 24, 1 + n, 8285) for n in range(3000)]
    path.set_routes(routes)
    check_each(path, routes, {})
    path.del_routes(routes[::2])
    others = [Route(10 << 24 | n << 8, 24, 9000 + n, 8285) for n in range(0, 3000, 2)]
    before = {one.address: one.tx_packets for one in path.peers()}
    assert len(before) == 1500
    path.set_routes(others)
    check_each(path, routes[1::2] + others, before)
    path.close()


def check_each(path: FastPath, routes: list[Route], before: dict[int, int]) -> None:
    """Each peer is sent another number of packets."""
    for number, route in enumerate(routes):
        to = str(IPv4Address(route.prefix + 1))
        path.wrap([packet(destination=to)] * (1 + number % 3), 0)
    assert {one.address: one.tx_packets for one in path.peers()} == {
        route.address: 1 + number % 3 + before.get(route.address, 0)
        for number, route in enumerate(routes)
    }


@pytest.mark.parametrize("datapath", ["native", "python"])
def test_last_seen_is_told_by_the_monotonic_clock(datapath: str) -> None:
    with bench(datapath) as it:
        it.path.pump(Direction.RX, 10)
        assert [one.last_seen for one in it.path.peers()] == [0]
        before = time.monotonic_ns()
        it.peer.sendto(PACKET, it.underlay.getsockname())
        it.path.pump(Direction.RX, 10)
        (one,) = it.path.peers()
        assert before <= one.last_seen <= time.monotonic_ns()
        assert (one.rx_packets, one.rx_bytes) == (1, SIZE)


# ---- the forwarder -------------------------------------------------------------------


def new_queues(count: int) -> tuple[TunDevice, list[socket.socket]]:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
    for pair in pairs:
        for sock in pair:
            sock.setblocking(False)
    fds = tuple(tun.detach() for tun, _ in pairs)
    return TunDevice(fds, "flannel0"), [kernel for _, kernel in pairs]


def fail(error: OSError) -> None:
    raise AssertionError(error)


@pytest.mark.parametrize("datapath", ["native", "python"])
async def test_sums_over_queues_and_tuns(datapath: str) -> None:
    """And a peer that comes again begins at 0 in all of them."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        route = Route.to(
            IPv4Network("10.5.2.0/24"), IPv4Address("127.0.0.1"), peer.getsockname()[1]
        )
        idle = to(3, FIRST)
        underlay = open_underlay(IPv4Address("127.0.0.1"), 0, 2)
        ours = underlay.rx[0].getsockname()
        forwarder = Forwarder(underlay, datapath, "threads")
        forwarder.set_routes([idle, route])
        for turn in (1, 2):
            tun, kernels = new_queues(2)
            forwarder.start(tun, Endpoint(TUN_ADDRESS, MTU), fail)
            for kernel in kernels:
                await loop.sock_sendall(kernel, PACKET)
                await asyncio.wait_for(loop.sock_recv(peer, 2048), 10)
            peer.sendto(PACKET, ours)
            async with asyncio.timeout(10):
                while forwarder.counters(Direction.RX).packets < turn:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)  # counters tell nobody
            running = forwarder.peers()
            forwarder.stop()
            assert forwarder.peers() == running
            one, other = running
            assert one[:6] == (
                route.address,
                4,
                *(2 * turn, 2 * turn * SIZE),
                *(turn, turn * SIZE),
            )
            assert other == PeerCounters(FIRST)
            for kernel in kernels:
                kernel.close()
        forwarder.set_routes([route._replace(address=SECOND)])
        assert forwarder.peers() == [PeerCounters(FIRST), PeerCounters(SECOND)]
        forwarder.set_routes([route])
        assert forwarder.peers() == [PeerCounters(route.address), PeerCounters(FIRST)]
        forwarder.del_routes([route, idle])
        assert forwarder.peers() == []
        forwarder.close()
