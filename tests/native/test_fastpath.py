"""FastPath's own: errors, and routes that change while pumps look at them."""

from __future__ import annotations

import errno
import os
import socket
import threading
from array import array
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given, strategies as st

from flannelette.dataplane.routes import RouteTable
from flannelette.native.api import Direction, Offload, PathConfig, Route
from flannelette.native.fastpath import FastPath
from tests.helpers.bench import bench, drain
from tests.helpers.packets import (
    MTU,
    PEER,
    PORT,
    ROUTE,
    TUN_ADDRESS,
    addresses,
    packet,
)

CONFIG = PathConfig(-1, -1, -1, mtu=MTU, address=int(TUN_ADDRESS))


@pytest.mark.parametrize(
    "wrong",
    [
        {"mtu": 67},
        {"mtu": 65508},
        {"batch": 0},
        {"batch": 1025},
        {"offloads": Offload.MERGE_TCP},
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        FastPath(replace(CONFIG, **wrong))
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    "route",
    [
        Route(0x0A050201, 24, 1, 1),
        Route(0, 33, 1, 1),
        Route(0, 0, 1, 0),
        Route(0, 0, 1, 65536),
    ],
)
def test_no_route(route: Route) -> None:
    path = FastPath(CONFIG)
    with pytest.raises(OSError, match="Invalid argument"):
        path.set_routes([ROUTE, route])
    bursts, _ = path.wrap([packet()], 0)
    assert bursts == [], "a refused set changes nothing"
    path.close()


# Many prefixes that share what a careless hash looks at, and few addresses.
crowds = st.lists(
    st.builds(
        lambda third, length, port: Route(
            (0x0A050000 | third << 8) >> 32 - length << 32 - length, length, third, port
        ),
        st.integers(0, 255),
        st.sampled_from([0, 1, 16, 23, 24, 24, 24]),
        st.integers(1, 65535),
    ),
    max_size=200,
)


@given(crowds, crowds, st.lists(addresses, max_size=30))
def test_find(added: list[Route], deleted: list[Route], wanted: list[int]) -> None:
    """As the obvious table does it, whatever the table's shape."""
    table, path = RouteTable(), FastPath(CONFIG)
    assert find(path, wanted) == [(0, 0)] * len(wanted), "no table yet"
    table.set(added)
    path.set_routes(added)
    table.delete(deleted)
    path.del_routes(deleted)
    routes = [table.find(address) for address in wanted]
    assert find(path, wanted) == [(r.address, r.port) if r else (0, 0) for r in routes]
    path.close()


@pytest.mark.parametrize("stride", [1, 5])
def test_a_full_network_is_found(stride: int) -> None:
    """As many subnets as flannel can have, dense or not, and what is between them."""
    path = FastPath(CONFIG)
    peers = {i * stride: (i, 1 + i % 65535) for i in range(65536)}
    path.set_routes([Route(s << 8, 24, *peer) for s, peer in peers.items()])
    subnets = range(65536 * stride + 2)
    found = find(path, [subnet << 8 | 1 for subnet in subnets])
    assert found == [peers.get(subnet, (0, 0)) for subnet in subnets]
    path.close()


def find(path: FastPath, wanted: list[int]) -> list[tuple[int, int]]:
    peers = array("I", bytes(8 * len(wanted)))
    count = path.find(array("I", wanted), peers)
    found = list(zip(peers[::2], peers[1::2], strict=True))
    assert count == sum(port > 0 for _, port in found)
    return found


def test_find_takes_arrays_that_fit() -> None:
    path = FastPath(CONFIG)
    with pytest.raises(ValueError, match="two numbers"):
        path.find(array("I", [1]), array("I", [1]))
    with pytest.raises(TypeError, match="32-bit"):
        path.find(array("Q", [1]), array("I", [1, 2]))
    path.close()


def test_a_closed_path_says_so() -> None:
    path = FastPath(CONFIG)
    path.close()
    path.close()
    with pytest.raises(OSError, match="closed"):
        path.counters(Direction.TX)


def test_dead_descriptors_end_a_pump() -> None:
    path = FastPath(CONFIG)
    for direction in Direction:
        with pytest.raises(OSError, match="Bad file descriptor"):
            path.pump(direction, 1)
    path.close()


def test_equal_sizes_to_one_peer_are_one_burst() -> None:
    """What UDP_SEGMENT wants: one size, the last perhaps shorter, one peer."""
    path = FastPath(CONFIG)
    other = Route.to(IPv4Network("10.5.3.0/24"), PEER + 1, PORT)
    path.set_routes([ROUTE, other])
    long, short = packet(payload=bytes(100)), packet(payload=bytes(50))
    elsewhere = packet(destination="10.5.3.2", payload=bytes(100))
    bursts, _ = path.wrap([long, long, short, short, long, elsewhere], 0)
    assert [(len(b.data), b.segment, b.address) for b in bursts] == [
        (120 + 120 + 70, 120, ROUTE.address),
        (70, 70, ROUTE.address),
        (120, 120, ROUTE.address),
        (120, 120, other.address),
    ]
    path.close()


def test_what_is_too_long_for_segments_is_sent() -> None:
    """UDP_SEGMENT wants room for an IPv6 header; a datagram alone may be longer."""
    with bench(offloads=Offload.GSO) as it:
        path = FastPath(replace(it.config, mtu=65507))
        path.set_routes([it.route])
        frame = packet(payload=bytes(65507 - 20))
        it.kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        it.kernel.send(frame)
        assert path.pump(Direction.TX, 1) == 1
        assert [len(data) for data in drain(it.peer)] == [65507]
        path.close()


def test_routes_change_under_a_running_pump() -> None:
    """One thread wraps while another replaces the table: every packet finds the route
    that never leaves, at one of its two peers (ASan watches the reclaiming)."""
    path = FastPath(CONFIG)
    path.set_routes([ROUTE])
    seen: set[int] = set()
    lost = 0
    done = threading.Event()

    def wrap() -> None:
        nonlocal lost
        while not done.is_set():
            bursts, _ = path.wrap([packet()] * 64, 0)
            seen.update(burst.address for burst in bursts)
            lost += 64 - sum(len(burst.data) // burst.segment for burst in bursts)

    thread = threading.Thread(target=wrap)
    thread.start()
    for turn in range(200):  # of some milliseconds each: two threads, one GIL
        many = [Route(i << 16, 16, 1, 1) for i in range(turn % 50)]
        moved = ROUTE._replace(address=ROUTE.address + turn % 2)
        path.set_routes([*many, moved])
        path.del_routes(many)
    done.set()
    thread.join()
    path.close()
    assert lost == 0
    assert seen <= {ROUTE.address, ROUTE.address + 1}


def test_stop_ends_run_at_once_and_for_ever() -> None:
    stop_fd = os.eventfd(0)
    reading, writing = os.pipe()
    path = FastPath(replace(CONFIG, tun_fd=reading, stop_fd=stop_fd))
    thread = threading.Thread(target=path.run, args=[Direction.TX])
    thread.start()
    path.stop()
    thread.join(10)
    assert not thread.is_alive()
    path.run(Direction.TX)
    path.close()
    for fd in (stop_fd, reading, writing):
        os.close(fd)
