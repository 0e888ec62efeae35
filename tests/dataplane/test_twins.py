"""FastPath and PurePath are twins: equal output, packet by packet, and equal drops."""

from __future__ import annotations

import errno
import os
import resource
import socket
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.dataplane.path import Path, open_path
from flannelette.encap import ip
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    NO_OFFLOAD,
    Burst,
    Counters,
    Direction,
    Offload,
    PathConfig,
    Route,
)
from tests.helpers.bench import bench, drain
from tests.helpers.freshnet import in_fresh_net, ip as ip_tool
from tests.helpers.ns import needs_namespaces
from tests.helpers.packets import MTU, ROUTE, frames, packet, routes
from tests.helpers.twins import as_twins_count, both, counts, datagrams

route_changes = st.lists(
    st.tuples(st.sampled_from(["set", "set", "del"]), st.lists(routes, max_size=6)),
    max_size=6,
)


@settings(max_examples=300)
@given(
    route_changes,
    st.lists(st.lists(frames, max_size=8), max_size=3),
    st.integers(68, 1600),
)
def test_wrap(
    changes: list[tuple[str, list[Route]]], batches: list[list[bytes]], mtu: int
) -> None:
    with both(mtu) as (native, python):
        for what, some in changes:
            for path in (native, python):
                (path.set_routes if what == "set" else path.del_routes)(some)
        for now, batch in enumerate(batches):
            fast, fast_answers = native.wrap(batch, now)
            pure, pure_answers = python.wrap(batch, now)
            assert datagrams(fast) == datagrams(pure)
            assert fast_answers == pure_answers
        assert counts(native) == counts(python)


bursts = st.builds(
    lambda data, segment: Burst(data, segment, 1, 1),
    st.one_of(frames, st.lists(st.just(packet()), max_size=4).map(b"".join)),
    st.one_of(st.integers(1, 100), st.just(len(packet())), st.just(65507)),
)


@settings(max_examples=300)
@given(st.lists(bursts, max_size=8), st.integers(68, 1600))
def test_unwrap(batch: list[Burst], mtu: int) -> None:
    with both(mtu) as (native, python):
        assert native.unwrap(batch) == python.unwrap(batch)
        assert counts(native) == counts(python)


@given(st.lists(st.tuples(st.integers(0, 5 * 10**6), st.integers(1, 80)), max_size=12))
def test_answers_are_limited_alike(turns: list[tuple[int, int]]) -> None:
    with both() as (native, python):
        now = 0
        for gap, count in turns:
            now += gap
            batch = [packet(destination="10.9.9.9")] * count
            assert native.wrap(batch, now) == python.wrap(batch, now)
        assert counts(native) == counts(python)


@pytest.mark.parametrize("fragment", [0, ip.DONT_FRAGMENT])
def test_the_mtu_is_the_most_that_passes(fragment: int) -> None:
    """One byte more is dropped, and answered only if it must not be fragmented."""
    for size, passes in ((MTU, True), (MTU + 1, False)):
        frame = packet(payload=bytes(size - 20), fragment=fragment)
        with both() as paths:
            for path in paths:
                path.set_routes([ROUTE])
                bursts, answers = path.wrap([frame], 0)
                assert len(bursts) == passes
                expected = [b"\3\4"] if fragment and not passes else []
                assert [answer[20:22] for answer in answers] == expected
                drops = path.counters(Direction.TX).drops
                assert drops[Drop.OVERSIZE] == sum(drops) == (not passes)


def test_the_datagram_is_the_packet_with_a_hop_less_u11() -> None:
    """And without its padding."""
    with both() as paths:
        for path in paths:
            path.set_routes([ROUTE])
            (burst,), _ = path.wrap([packet(ttl=64) + b"padding"], 0)
            assert burst.data == packet(ttl=63)
            data = packet(ttl=63) + b"padding"
            assert path.unwrap([Burst(data, 1500, 1, 1)]) == [packet(ttl=62)]


def test_the_hop_is_looked_at_before_the_size() -> None:
    with both() as paths:
        for path in paths:
            path.set_routes([ROUTE])
            fragment = ip.DONT_FRAGMENT
            data = packet(payload=bytes(MTU), ttl=1, fragment=fragment)
            assert path.wrap([data], 0) == ([], [])
            assert path.counters(Direction.TX).drops[Drop.TTL_EXPIRED] == 1


def test_padding_counts_for_the_size_u13() -> None:
    """What is longer than the MTU was perhaps not received whole."""
    fits = packet(payload=bytes(MTU - 20), ttl=9)
    with both() as paths:
        for path in paths:
            assert path.unwrap([Burst(fits + b"!", 1500, 1, 1)]) == []
            assert len(path.unwrap([Burst(fits, 1500, 1, 1)])) == 1
            assert path.counters(Direction.RX).drops[Drop.OVERSIZE] == 1


def test_refused_routes_are_refused_by_both() -> None:
    wrong = [
        Route(1, 24, 1, 1),
        Route(0, 33, 1, 1),
        Route(0, 0, 1, 0),
        Route(0, 0, 1, 65536),
    ]
    with both() as paths:
        for path in paths:
            for route in wrong:
                with pytest.raises(OSError) as caught:  # noqa: PT011 (errno says it)
                    path.set_routes([route])
                assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("datapath", "wrong"),
    [
        (datapath, wrong)
        for datapath in ("native", "python")
        for wrong in ({"mtu": 67}, {"mtu": 65508}, {"batch": 0}, {"batch": 1025})
    ]
    + [
        ("native", {"offloads": Offload.MERGE_TCP}),
        *(("python", {"offloads": offload}) for offload in Offload),
    ],
)
def test_a_setting_out_of_range_is_refused(
    datapath: str, wrong: dict[str, Any]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        config = PathConfig(-1, sock.fileno(), -1, MTU, 0)
        with pytest.raises(OSError) as caught:  # noqa: PT011 (errno says it)
            open_path(datapath, replace(config, **wrong))
        assert caught.value.errno == errno.EINVAL
        for mtu, batch in ((68, 1), (65507, 1024)):
            open_path(datapath, replace(config, mtu=mtu, batch=batch)).close()


# ---- the pumps -----------------------------------------------------------------------


def pumped(
    datapath: str, batch: int, direction: Direction, packets: list[bytes]
) -> tuple[int, list[bytes], list[bytes], Counters]:
    """Packets go in: how many moved, what came to the peer, what to the kernel, and
    what was counted."""
    with bench(datapath, batch) as it:
        for data in packets:
            if direction is Direction.TX:
                it.kernel.send(data)
            else:
                it.peer.sendto(data, it.underlay.getsockname())
        moved = it.path.pump(direction, 1000)
        counters = as_twins_count(it.path.counters(direction), batch)
        return moved, drain(it.peer), drain(it.kernel), counters


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(frames.filter(len), st.just(packet())), max_size=8),
    st.sampled_from([1, 3, 64]),
    st.sampled_from(Direction),
)
def test_pumps(packets: list[bytes], batch: int, direction: Direction) -> None:
    native = pumped("native", batch, direction, packets)
    assert native == pumped("python", batch, direction, packets)


def test_an_oversize_datagram_is_counted_not_cut_u13() -> None:
    for datapath in ("native", "python"):
        packets = [packet(payload=bytes(size)) for size in (MTU - 19, 9000, MTU - 20)]
        moved, _, written, counters = pumped(datapath, 64, Direction.RX, packets)
        assert moved == 3
        assert [len(frame) for frame in written] == [MTU]
        assert counters.drops[Drop.OVERSIZE] == 2


def test_budget_bounds_a_pump() -> None:
    for datapath in ("native", "python"):
        with bench(datapath, 64) as it:
            for _ in range(8):
                it.kernel.send(packet())
            assert it.path.pump(Direction.TX, 5) == 5
            assert it.path.pump(Direction.TX, 5) == 3


# ---- full descriptors ----------------------------------------------------------------

MANY = 64
LARGEST = packet(payload=bytes(MTU - 20))
both_paths = pytest.mark.parametrize("datapath", ["native", "python"])


def check_one_wait(path: Path, direction: Direction, reason: Drop, total: int) -> None:
    """Pump MANY packets to where only few fit: that lets the thread sleep once or so,
    and every packet of the total so far is counted."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    assert path.pump(direction, MANY) == MANY
    slept = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before
    assert 1 <= slept < MANY // 4
    counters = path.counters(direction)
    assert counters.drops[reason] == sum(counters.drops) > total // 2
    assert counters.packets + counters.drops[reason] == total


@both_paths
def test_a_full_tun_is_waited_for_once_in_a_pump(datapath: str) -> None:
    with bench(datapath) as it:
        it.tun.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for turn in (1, 2):
            for _ in range(MANY):
                it.peer.sendto(LARGEST, it.underlay.getsockname())
            check_one_wait(it.path, Direction.RX, Drop.WRITE_FAILED, turn * MANY)


@needs_namespaces
@both_paths
@pytest.mark.parametrize("wire_mtu", [1500, 1000])
def test_a_full_socket_is_waited_for_once_in_a_pump(
    datapath: str, wire_mtu: int
) -> None:
    """Datagrams to a neighbour who answers no ARP fill it. Over the narrow wire no
    burst goes as one message."""

    async def use() -> None:
        ip_tool(
            f"link add eth0 mtu {wire_mtu} type veth peer name eth1",
            "address add 192.0.2.1/24 dev eth0",
            *(f"link set {device} up" for device in ("lo", "eth0", "eth1")),
        )
        native = datapath == "native"
        gso = Offload.GSO if native and wire_mtu < MTU else NO_OFFLOAD
        with bench() as it, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            config = replace(it.config, udp_fd=sock.fileno(), offloads=gso)
            with closing(open_path(datapath, config)) as path:
                path.set_routes([ROUTE])
                for turn in (1, 2):
                    for _ in range(MANY):
                        it.kernel.send(LARGEST)
                    total = turn * MANY
                    check_one_wait(path, Direction.TX, Drop.SEND_FAILED, total)

    in_fresh_net(use)


@pytest.mark.parametrize("datapath", ["native", "python"])
def test_every_packet_that_a_dead_tun_costs_is_counted(datapath: str) -> None:
    """A pipe's read end stands for the lost TUN. The native path has received the
    whole batch by then; PurePath has received one."""
    with bench(datapath) as it:
        reading, writing = os.pipe()
        os.dup2(reading, it.tun.fileno())
        for _ in range(5):
            it.peer.sendto(packet(), it.underlay.getsockname())
        with pytest.raises(OSError, match="Bad file descriptor"):
            it.path.pump(Direction.RX, 100)
        drops = it.path.counters(Direction.RX).drops
        assert drops[Drop.WRITE_FAILED] == (5 if datapath == "native" else 1)
        os.close(reading)
        os.close(writing)
