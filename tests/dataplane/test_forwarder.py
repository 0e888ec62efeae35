"""The forwarder: routes and counters outlive the TUN, and nothing leaks."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from ipaddress import IPv4Address
from typing import NoReturn, cast

import pytest

from flannelette.dataplane import forwarder as module
from flannelette.dataplane.drivers import DRIVERS, ThreadDriver
from flannelette.dataplane.forwarder import NO_COUNTERS, Direction, Forwarder
from flannelette.dataplane.path import Path
from tests.helpers.forwarders import (
    ENDPOINT,
    fail,
    new_tun,
    other_node,
    route_to,
    underlay,
)
from tests.helpers.packets import ROUTE, packet


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("datapath", ["native", "python"])
async def test_routes_and_counters_outlive_the_tun(datapath: str, driver: str) -> None:
    loop = asyncio.get_running_loop()
    descriptors = set(os.listdir("/proc/self/fd"))
    with other_node() as peer:
        address, port = peer.getsockname()
        route = ROUTE._replace(address=int(IPv4Address(address)), port=port)
        forwarder = Forwarder(underlay(), datapath, driver)
        assert forwarder.counters(Direction.TX) == NO_COUNTERS
        forwarder.set_routes([route])
        for turn in (1, 2):
            tun, kernel = new_tun()
            forwarder.start(tun, ENDPOINT, fail)
            assert forwarder.pumping
            await loop.sock_sendall(kernel, packet())
            got = await asyncio.wait_for(loop.sock_recv(peer, 65536), 10)
            assert got == packet(ttl=63)
            forwarder.stop()
            forwarder.stop()
            assert not forwarder.pumping
            assert forwarder.counters(Direction.TX).packets == turn
            kernel.close()
        assert forwarder.routes == [route]
        forwarder.del_routes([route])
        assert forwarder.routes == []
        forwarder.close()
    assert set(os.listdir("/proc/self/fd")) == descriptors


def break_start(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, "no more")

    match fault:
        case "eventfd":
            monkeypatch.setattr(os, "eventfd", refuse)
        case "path" | "driver":
            monkeypatch.setattr(module, f"open_{fault}", refuse)
        case "threads":
            start = threading.Thread.start

            def start_tx_only(thread: threading.Thread) -> None:
                if thread.name == "pump-rx":
                    raise RuntimeError("no more threads")
                start(thread)

            monkeypatch.setattr(threading.Thread, "start", start_tx_only)


@pytest.mark.parametrize("fault", ["eventfd", "path", "driver", "threads"])
async def test_a_failed_start_leaves_nothing_and_may_be_repeated(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    forwarder = Forwarder(underlay(), "native", "threads", offload=())
    tun, kernel = new_tun()
    before = set(os.listdir("/proc/self/fd")), threading.active_count()
    with monkeypatch.context() as broken:
        break_start(fault, broken)
        with pytest.raises(OSError, match="no more"):
            forwarder.start(tun, ENDPOINT, fail)
    assert (set(os.listdir("/proc/self/fd")), threading.active_count()) == before
    forwarder.stop()
    assert set(os.listdir("/proc/self/fd")) == before[0], "the TUN is still ours"

    with other_node() as peer, kernel:
        address, port = peer.getsockname()
        forwarder.set_routes(
            [ROUTE._replace(address=int(IPv4Address(address)), port=port)]
        )
        forwarder.start(tun, ENDPOINT, fail)
        await loop.sock_sendall(kernel, packet())
        await asyncio.wait_for(loop.sock_recv(peer, 65536), 10)
        forwarder.close()


async def test_the_batch_is_the_path_s() -> None:
    forwarder = Forwarder(underlay(), "native", "threads", offload=(), batch=0)
    tun, kernel = new_tun()
    with pytest.raises(OSError, match="Invalid argument"):
        forwarder.start(tun, ENDPOINT, fail)
    tun.close()
    kernel.close()
    forwarder.close()


@pytest.mark.parametrize("every", [0, 1])
async def test_stages_are_timed_if_the_path_shall(every: int) -> None:
    loop = asyncio.get_running_loop()
    tun, kernel = new_tun()
    forwarder = Forwarder(underlay(), "native", "thread", (), time_stages=every)
    with other_node() as peer, kernel:
        forwarder.set_routes([route_to(peer)])
        forwarder.start(tun, ENDPOINT, fail)
        await loop.sock_sendall(kernel, packet())
        await asyncio.wait_for(loop.sock_recv(peer, 65536), 10)
        forwarder.stop()
        counters = forwarder.counters(Direction.TX)
        assert counters.timed_packets == every
        assert bool(sum(counters.stages)) == bool(every)
        forwarder.close()


class Dying:
    """A path whose pumps end at once, as when the TUN is gone."""

    def run(self, *directions: Direction) -> None:
        raise OSError(errno.EBADFD, "gone")

    def stop(self) -> None:
        pass


async def test_an_error_that_comes_after_close_is_nobodys() -> None:
    driver = ThreadDriver(cast(Path, Dying()), fail, [(d,) for d in Direction])
    driver.close()  # both pumps have ended, and the loop has not heard of it yet
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_routes_change_while_forwarding() -> None:
    loop = asyncio.get_running_loop()
    tun, kernel = new_tun()
    forwarder = Forwarder(underlay(), "native", "threads")
    forwarder.start(tun, ENDPOINT, fail)
    with other_node() as one, other_node() as two, kernel:
        for peer in (one, two, one):
            address, port = peer.getsockname()
            forwarder.set_routes(
                [ROUTE._replace(address=int(IPv4Address(address)), port=port)]
            )
            await loop.sock_sendall(kernel, packet())
            await asyncio.wait_for(loop.sock_recv(peer, 65536), 10)
        forwarder.del_routes([ROUTE])
        await loop.sock_sendall(kernel, packet())
        answer = await asyncio.wait_for(loop.sock_recv(kernel, 65536), 10)
        assert answer[20:22] == b"\3\0"
        forwarder.close()
