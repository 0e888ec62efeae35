"""Both drivers: packets flow, a dead device is told, closing ends it all."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop

from flannelette.dataplane.drivers import DRIVERS, open_driver
from flannelette.encap.drop import Drop
from flannelette.native.api import Direction
from tests.helpers.bench import Bench, bench
from tests.helpers.forwarders import until
from tests.helpers.packets import packet

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
every_driver = pytest.mark.parametrize("driver", DRIVERS)
both_paths = pytest.mark.parametrize("datapath", ["native", "python"])


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=LOOPS[request.param])


@asynccontextmanager
async def driven(it: Bench, driver: str) -> AsyncIterator[list[OSError]]:
    errors: list[OSError] = []
    running = open_driver(driver, it.path, it.config, errors.append)
    try:
        yield errors
    finally:
        running.close()


async def received(sock: object) -> bytes:
    loop = asyncio.get_running_loop()
    return await asyncio.wait_for(loop.sock_recv(sock, 65536), 10)  # type: ignore[arg-type]


@every_driver
@both_paths
def test_packets_flow_both_ways(
    runner: asyncio.Runner, datapath: str, driver: str
) -> None:
    async def flow(it: Bench) -> None:
        async with driven(it, driver) as errors:
            for turn in range(100):
                data = packet(payload=bytes(turn))
                it.kernel.send(data)
                assert await received(it.peer) == packet(payload=bytes(turn), ttl=63)
                it.peer.sendto(data, it.underlay.getsockname())
                assert await received(it.kernel) == packet(payload=bytes(turn), ttl=63)
            assert errors == []
        for direction in Direction:
            assert it.path.counters(direction).packets == 100

    with runner, bench(datapath) as it:
        runner.run(flow(it))


@every_driver
@both_paths
def test_nothing_moves_after_close(
    runner: asyncio.Runner, datapath: str, driver: str
) -> None:
    async def use(it: Bench) -> None:
        async with driven(it, driver):
            pass
        it.kernel.send(packet())
        await asyncio.sleep(0)
        assert it.path.counters(Direction.TX).packets == 0

    threads = threading.active_count()
    with runner, bench(datapath) as it:
        runner.run(use(it))
    assert threading.active_count() == threads


@every_driver
@both_paths
def test_a_dead_descriptor_is_told_once(
    runner: asyncio.Runner, datapath: str, driver: str
) -> None:
    """A pipe's read end stands for the lost TUN: a write to it fails with EBADF."""

    async def use(it: Bench) -> None:
        reading, writing = os.pipe()
        os.dup2(reading, it.tun.fileno())
        told = asyncio.Event()
        errors: list[OSError] = []

        def on_error(error: OSError) -> None:
            errors.append(error)
            told.set()

        running = open_driver(driver, it.path, it.config, on_error)
        assert running.pumping
        it.peer.sendto(packet(), it.underlay.getsockname())
        await asyncio.wait_for(told.wait(), 10)
        await until(lambda: not running.pumping)  # a thread tells before it ends
        it.peer.sendto(packet(), it.underlay.getsockname())
        running.close()
        await asyncio.sleep(0)
        assert [error.errno for error in errors] == [errno.EBADF]
        os.close(reading)
        os.close(writing)

    with runner, bench(datapath) as it:
        runner.run(use(it))
        assert it.path.counters(Direction.RX).drops[Drop.WRITE_FAILED] == 1
