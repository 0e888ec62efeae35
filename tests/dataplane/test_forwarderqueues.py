"""A forwarder of several queues: they start, forward and end together."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from typing import NoReturn

import pytest

from flannelette.dataplane import forwarder as module
from flannelette.dataplane.drivers import DRIVERS
from flannelette.dataplane.forwarder import Direction, Forwarder
from flannelette.dataplane.purepath import PurePath
from flannelette.dataplane.underlay import open_underlay
from flannelette.native.api import Offload
from tests.helpers.bench import drain
from tests.helpers.forwarders import (
    ENDPOINT,
    LOOPBACK,
    fail,
    new_queues,
    other_node,
    route_to,
    until,
)
from tests.helpers.packets import ROUTE, packet

EVERY_WAY = [(d, r) for d in ("native", "python") for r in DRIVERS]


@pytest.mark.parametrize(("datapath", "driver"), EVERY_WAY)
async def test_every_queue_forwards_and_all_go_together(
    datapath: str, driver: str
) -> None:
    """Packets of all queues leave from the one port; counters are sums, and outlive
    the TUN; nothing is left."""
    loop = asyncio.get_running_loop()
    before = set(os.listdir("/proc/self/fd")), threading.active_count()
    sockets = open_underlay(LOOPBACK, 0, 3)
    ours = sockets.rx[0].getsockname()
    with other_node() as peer:
        forwarder = Forwarder(sockets, datapath, driver)
        forwarder.set_routes([route_to(peer)])
        for turn in (1, 2):
            tun, kernels = new_queues(3)
            forwarder.start(tun, ENDPOINT, fail)
            for kernel in kernels:
                await loop.sock_sendall(kernel, packet())
                got, sender = await asyncio.wait_for(loop.sock_recvfrom(peer, 2048), 10)
                assert (got, sender) == (packet(ttl=63), ours)
            await until(lambda: forwarder.counters(Direction.TX).packets == 3 * turn)  # noqa: B023
            forwarder.stop()
            assert forwarder.counters(Direction.TX).packets == 3 * turn
            for kernel in kernels:
                kernel.close()
        forwarder.close()
    assert (set(os.listdir("/proc/self/fd")), threading.active_count()) == before


@pytest.mark.parametrize(("datapath", "driver"), EVERY_WAY)
async def test_a_peer_s_packets_stay_in_order_in_one_queue(
    datapath: str, driver: str
) -> None:
    peers, each = 24, 30
    sockets = open_underlay(LOOPBACK, 0, 4)
    tun, kernels = new_queues(4)
    for kernel in kernels:
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    got: list[list[bytes]] = [[] for _ in kernels]
    forwarder = Forwarder(sockets, datapath, driver)
    forwarder.start(tun, ENDPOINT, fail)
    senders = [other_node() for _ in range(peers)]

    def arrived() -> bool:
        for queue, kernel in zip(got, kernels, strict=True):
            queue += drain(kernel)
        return sum(map(len, got)) == total

    total = 0
    for number in range(each):
        for peer, sender in enumerate(senders):
            data = packet(payload=bytes([peer, number]))
            sender.sendto(data, sockets.rx[0].getsockname())
        total += peers
        await until(arrived)  # what a UNIX socket queues is little
    for peer in range(peers):
        wanted = [bytes([peer, number]) for number in range(each)]
        queues = [[p[20:] for p in queue if p[20] == peer] for queue in got]
        assert [numbers for numbers in queues if numbers] == [wanted]
    assert sum(bool(queue) for queue in got) > 1
    await until(lambda: forwarder.counters(Direction.RX).packets == peers * each)
    forwarder.close()
    for sock in [*senders, *kernels]:
        sock.close()


async def test_all_queues_have_the_same_routes() -> None:
    loop = asyncio.get_running_loop()
    tun, kernels = new_queues(2)
    forwarder = Forwarder(open_underlay(LOOPBACK, 0, 2), "native", "threads")
    forwarder.start(tun, ENDPOINT, fail)
    with other_node() as one, other_node() as two:
        for peer in (one, two):
            forwarder.set_routes([route_to(peer)])
            for kernel in kernels:
                await loop.sock_sendall(kernel, packet())
                await asyncio.wait_for(loop.sock_recv(peer, 65536), 10)
        forwarder.del_routes([ROUTE])
        for kernel in kernels:
            await loop.sock_sendall(kernel, packet())
            answer = await asyncio.wait_for(loop.sock_recv(kernel, 65536), 10)
            assert answer[20:22] == b"\3\0"
    with pytest.raises(OSError, match="Invalid"):
        forwarder.set_routes([ROUTE._replace(port=0)])
    assert forwarder.routes == []
    forwarder.close()
    for kernel in kernels:
        kernel.close()


@pytest.mark.parametrize("fault", ["path", "driver"])
async def test_a_start_that_fails_at_a_later_queue_leaves_nothing(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tun, kernels = new_queues(3)
    forwarder = Forwarder(open_underlay(LOOPBACK, 0, 3), "native", "threads")
    before = set(os.listdir("/proc/self/fd")), threading.active_count()
    real, calls = getattr(module, f"open_{fault}"), []

    def third_fails(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(errno.ENOMEM, "no more")
        return real(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr(module, f"open_{fault}", third_fails)
        with pytest.raises(OSError, match="no more"):
            forwarder.start(tun, ENDPOINT, fail)
    assert (set(os.listdir("/proc/self/fd")), threading.active_count()) == before
    forwarder.start(tun, ENDPOINT, fail)
    forwarder.close()
    for kernel in kernels:
        kernel.close()


def pumping() -> bool:
    return any(thread.name.startswith("pump") for thread in threading.enumerate())


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_lost_tun_is_told_once(
    driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though each pump of each queue tells of it."""

    def gone(*_: object) -> NoReturn:
        ended.append(None)
        raise OSError(errno.EBADFD, "gone")

    ended: list[None] = []
    told: list[OSError] = []
    for method in ("run", "pump"):
        monkeypatch.setattr(PurePath, method, gone)
    tun, kernels = new_queues(2)
    forwarder = Forwarder(open_underlay(LOOPBACK, 0, 2), "python", driver)
    for turn in (1, 2):
        if turn == 2:
            tun, kernels = new_queues(2)
        forwarder.start(tun, ENDPOINT, told.append)
        for kernel in kernels:
            kernel.send(packet())  # the loop's pumps need a reason
        await until(lambda: len(ended) >= 2 * turn)  # noqa: B023
        await until(lambda: not pumping() and len(told) >= turn)  # noqa: B023
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(told) == turn
        assert not forwarder.pumping
        forwarder.stop()
        for kernel in kernels:
            kernel.close()
    forwarder.close()


async def test_an_offload_is_in_use_if_every_queue_uses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tun, kernels = new_queues(2)
    forwarder = Forwarder(open_underlay(LOOPBACK, 0, 2), "native", "threads")
    assert forwarder.offloads == Offload(0)
    forwarder.start(tun, ENDPOINT, fail)
    assert forwarder.offloads == Offload.GSO | Offload.GRO
    first = forwarder._paths[0]
    with monkeypatch.context() as refused:
        refused.setattr(first, "offloads", lambda: Offload.GRO)
        assert forwarder.offloads == Offload.GRO
    forwarder.close()
    for kernel in kernels:
        kernel.close()


@pytest.mark.parametrize(
    ("queues", "unsteered", "steering"),
    [
        (1, None, None),
        (2, None, "fixed"),
        (2, OSError(errno.EPERM, "no"), "automatic"),
    ],
)
async def test_how_flows_are_steered(
    queues: int, unsteered: OSError | None, steering: str | None
) -> None:
    tun, kernels = new_queues(queues, unsteered)
    forwarder = Forwarder(open_underlay(LOOPBACK, 0, queues), "native", "threads")
    assert forwarder.steering is None
    forwarder.start(tun, ENDPOINT, fail)
    assert forwarder.steering == steering
    forwarder.stop()
    assert forwarder.steering is None
    forwarder.close()
    for kernel in kernels:
        kernel.close()
