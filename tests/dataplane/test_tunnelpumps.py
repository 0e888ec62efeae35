"""The pumps over VXLAN: two underlays, sockets by flow. Both twins."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.dataplane.path import Path, open_path
from flannelette.encap import ip, l4
from flannelette.encap.drop import Drop
from flannelette.native.api import Direction, PeerCheck, Route
from tests.helpers.bench import Bench, bench, drain
from tests.helpers.ipv6 import packet6, packets6
from tests.helpers.packets import MTU, frames, packet
from tests.helpers.streams import tcp_packet, udp_packet
from tests.helpers.twins import as_twins_count
from tests.helpers.vxlans import OWN, OWN_MAC, PEER_MAC, vxlan, vxlans

datapaths = pytest.mark.parametrize("datapath", ["native", "python"])
FLOWS = 4


def udp_socket(family: socket.AddressFamily) -> socket.socket:
    """On loopback, non-blocking, of any port."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    return sock


class Wires:
    """A path with both underlays. `peers` and `ours` are sockets by IP version, `flows`
    what sends, and `path` has a route to either peer."""

    def __init__(self, it: Bench, datapath: str, undo: ExitStack, config: Any) -> None:
        self.bench = it
        v6 = socket.AF_INET6
        self.ours = {4: it.underlay, 6: undo.enter_context(udp_socket(v6))}
        self.peers = {4: it.peer, 6: undo.enter_context(udp_socket(v6))}
        self.flows = {
            version: [undo.enter_context(udp_socket(family)) for _ in range(FLOWS)]
            for version, family in ((4, socket.AF_INET), (6, v6))
        }
        members = {
            "udp6_fd": self.ours[6].fileno(),
            "flow_fds": tuple(sock.fileno() for sock in self.flows[4]),
            "flow6_fds": tuple(sock.fileno() for sock in self.flows[6]),
            "mtu6": MTU,
            "vxlan": OWN,
            "peer_check": PeerCheck.PEER,
        }
        self.path = open_path(datapath, replace(it.config, **(members | config)))
        undo.callback(self.path.close)
        ports = {version: sock.getsockname()[1] for version, sock in self.peers.items()}
        there = IPv4Network("10.5.2.0/24")
        there6 = IPv6Network("fd00::/64")
        self.path.set_routes(
            [
                Route.to(there, IPv4Address("127.0.0.1"), ports[4], PEER_MAC),
                Route.to(there6, IPv6Address("::1"), ports[6], PEER_MAC),
            ]
        )

    def receive(self, *sent: tuple[int, bytes]) -> tuple[int, list[bytes]]:
        """Datagrams come from the peer over the given version: how many a pump moves,
        what the kernel gets."""
        for version, data in sent:
            target = self.ours[version].getsockname()[:2]
            self.peers[version].sendto(data, target)
        moved = self.path.pump(Direction.RX, 1000)
        return moved, drain(self.bench.kernel)


@contextmanager
def wires(datapath: str, **config: Any) -> Iterator[Wires]:
    try:
        udp_socket(socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 on loopback: {error}")
    with bench(datapath) as it, ExitStack() as undo:
        yield Wires(it, datapath, undo, config)


def drops(path: Path, direction: Direction) -> dict[Drop, int]:
    counted = path.counters(direction).drops
    return {Drop(i): count for i, count in enumerate(counted) if count}


@datapaths
@pytest.mark.parametrize("flows", [True, False])
def test_tx_goes_over_either_underlay(datapath: str, flows: bool) -> None:
    """What is counted is the packets, not their headers."""
    none = {} if flows else {"flow_fds": (), "flow6_fds": ()}
    with wires(datapath, **none) as it:
        for data in (packet(), packet6()):
            it.bench.kernel.send(data)
        assert it.path.pump(Direction.TX, 100) == 2
        for version, data in ((4, packet()), (6, packet6())):
            expected = vxlan(data, destination=PEER_MAC, source=OWN_MAC)
            got, sender = it.peers[version].recvfrom(65536)
            assert got == expected
            ours = it.flows[version] if flows else [it.ours[version]]
            assert sender in [sock.getsockname() for sock in ours]
        counters = it.path.counters(Direction.TX)
        assert (counters.packets, counters.bytes) == (2, len(packet() + packet6()))


@datapaths
def test_each_flow_keeps_its_socket_and_its_order(datapath: str) -> None:
    batch = [
        make(b"%d" % number, source_port=port)
        for number in range(3)
        for port in range(4000, 4016)
        for make in (udp_packet, tcp_packet)
    ]
    with wires(datapath) as it:
        for data in batch:
            it.bench.kernel.send(data)
        assert it.path.pump(Direction.TX, 1000) == len(batch)
        names = [sock.getsockname() for sock in it.flows[4]]
        arrived: dict[int, list[bytes]] = {}
        for _ in batch:
            data, sender = it.peers[4].recvfrom(65536)
            arrived.setdefault(names.index(sender), []).append(data[22:])
        expected: dict[int, list[bytes]] = {}
        for data in batch:
            flow = l4.flow(data, ip.parse(data), FLOWS)
            expected.setdefault(flow, []).append(data)
        assert arrived == expected
        assert len(arrived) == FLOWS


@datapaths
def test_rx_takes_from_both_underlays_in_one_pump(datapath: str) -> None:
    """Whatever the version inside."""
    with wires(datapath) as it:
        sent = [(6, packet()), (4, packet6()), (4, packet()), (6, packet6())]
        moved, written = it.receive(*((over, vxlan(data)) for over, data in sent))
        assert moved == 4
        assert sorted(written) == sorted(data for _, data in sent)
        counters = it.path.counters(Direction.RX)
        assert counters.bytes == sum(len(data) for _, data in sent)


@datapaths
def test_each_underlay_has_the_budget(datapath: str) -> None:
    """So neither starves the other."""
    with wires(datapath) as it:
        for version in (4, 6):
            target = it.ours[version].getsockname()[:2]
            for _ in range(40):
                it.peers[version].sendto(vxlan(packet(ttl=version)), target)
        for expected in (30, 10):
            assert it.path.pump(Direction.RX, 30) == 2 * expected
            hops = [data[8] for data in drain(it.bench.kernel)]
            assert sorted(hops) == [4] * expected + [6] * expected


@datapaths
def test_strangers_over_either_underlay(datapath: str) -> None:
    """Known is an address, from any of its ports (W3)."""
    with wires(datapath) as it:
        sent = (4, vxlan(packet())), (6, vxlan(packet6()))
        with udp_socket(socket.AF_INET) as other:
            other.sendto(vxlan(packet()), it.ours[4].getsockname())
            assert it.receive() == (1, [packet()])
        assert len(it.receive(*sent)[1]) == 2
        it.path.del_routes([Route(0xFD00 << 112, 64, 0, 0, 6)])
        assert it.receive(*sent) == (2, [packet()])
        it.path.del_routes([Route(0x0A050200, 24, 0, 0)])
        assert it.receive(*sent) == (2, [])
        assert drops(it.path, Direction.RX) == {Drop.UNKNOWN_PEER: 3}


@datapaths
def test_without_a_socket_of_its_version_a_peer_is_not_reached(datapath: str) -> None:
    with wires(datapath, udp6_fd=-1, flow6_fds=()) as it:
        for data in (packet6(), packet()):
            it.bench.kernel.send(data)
        assert it.path.pump(Direction.TX, 100) == 2
        assert len(drain(it.peers[4])) == 1
        assert drops(it.path, Direction.TX) == {Drop.SEND_FAILED: 1}
        # And what comes by the other is still received.
        assert it.receive((4, vxlan(packet6()))) == (1, [packet6()])


@datapaths
def test_run_wakes_for_either_underlay(datapath: str) -> None:
    with wires(datapath) as it:
        thread = threading.Thread(target=it.path.run, args=tuple(Direction))
        thread.start()
        try:
            it.bench.kernel.setblocking(True)
            it.bench.kernel.settimeout(10)
            for version in (6, 4, 6):
                target = it.ours[version].getsockname()[:2]
                it.peers[version].sendto(vxlan(packet6()), target)
                assert it.bench.kernel.recv(65536) == packet6()
                it.bench.kernel.send(packet6())
                it.peers[6].settimeout(10)
                assert it.peers[6].recv(65536)[22:] == packet6()
        finally:
            it.path.stop()
            thread.join()


@datapaths
def test_descriptors_are_given_back(datapath: str) -> None:
    """Also where one of those given is none."""
    with wires(datapath):
        before = sorted(os.listdir("/proc/self/fd"))
        with wires(datapath) as it:
            flow_fds = (*it.bench.config.flow_fds, 99999)
            if datapath == "python":
                with pytest.raises(OSError, match="Bad file descriptor"):
                    open_path(datapath, replace(it.bench.config, flow_fds=flow_fds))
        assert sorted(os.listdir("/proc/self/fd")) == before


inner = st.one_of(frames, packets6(), st.just(packet()), st.just(packet6()))
arrivals = st.lists(
    st.tuples(st.sampled_from([4, 6]), st.one_of(vxlans(inner), inner)), max_size=8
)


@settings(max_examples=40, deadline=None)
@given(arrivals, st.sampled_from([1, 3, 64]))
def test_rx_twins(sent: list[tuple[int, bytes]], batch: int) -> None:
    results = []
    for datapath in ("native", "python"):
        with wires(datapath, batch=batch) as it:
            moved, written = it.receive(*sent)
            counters = it.path.counters(Direction.RX)
            counted = as_twins_count(counters, batch)
            results.append((moved, sorted(written), counted))
    assert results[0] == results[1]


@settings(max_examples=40, deadline=None)
@given(st.lists(inner.filter(len), max_size=8), st.sampled_from([1, 3, 64]))
def test_tx_twins(packets: list[bytes], batch: int) -> None:
    results = []
    for datapath in ("native", "python"):
        with wires(datapath, batch=batch) as it:
            for data in packets:
                it.bench.kernel.send(data)
            moved = it.path.pump(Direction.TX, 1000)
            arrived = [sorted(drain(it.peers[version])) for version in (4, 6)]
            answers = drain(it.bench.kernel)
            counters = it.path.counters(Direction.TX)
            counted = as_twins_count(counters, batch)
            results.append((moved, arrived, answers, counted))
    assert results[0] == results[1]
