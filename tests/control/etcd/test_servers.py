"""Servers that are dead or frozen, and a process that stays clean."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from aetcd import rpc

from flannelette.control.errors import StoreUnavailable
from flannelette.control.etcd.servers import Servers
from flannelette.control.etcd.settings import EtcdSettings
from tests.helpers.etcd import (
    Etcd,
    free_ports,
    opened,
    require_etcd,
    running_cluster,
    running_etcd,
    settled as settled,
)
from tests.helpers.etcdproxy import EtcdProxy, lose
from tests.helpers.storerig import (
    DEADLINE,
    IPS,
    acquire,
    attrs_of,
    eventually,
    network,
    watching,
)

require_etcd()

PREFIX = "/coreos.com/network"
PEER = f"{PREFIX}/subnets/10.5.200.0-24"


# Endpoints.


def dead_endpoint() -> str:
    return f"http://127.0.0.1:{free_ports(1)[0]}"


async def test_a_dead_first_endpoint_is_passed_over(
    etcd: Etcd, caplog: pytest.LogCaptureFixture
) -> None:
    """E36: flanneld's own default has two, of which one is dead."""
    settings = replace(etcd.settings("/dead"), endpoints=(dead_endpoint(), etcd.url))
    async with opened(settings) as store, etcd.client() as client:
        lease = await acquire(store, IPS[0])
        async with watching(store) as watcher:
            assert len((await watcher.snapshot()).leases) == 1
            await client.put("/dead/subnets/10.5.200.0-24", attrs_of(IPS[1]).encode())
            await watcher.added()
        await store.renew(lease)
    (record,) = caplog.records
    assert "an etcd server does not answer: error=127.0.0.1:" in record.getMessage()


async def test_servers_that_die_and_come_back_are_told_once(
    own_etcd: Etcd,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whenever another one answers in their place."""
    caplog.set_level(logging.INFO)
    request = rpc.RangeRequest(key=b"a")
    with running_etcd(tmp_path_factory.mktemp("etcd")) as other:
        settings = replace(own_etcd.settings(), endpoints=(own_etcd.url, other.url))
        servers = Servers(settings)
        for dead in (own_etcd, other):
            dead.stop()
            for _ in range(3):
                await servers.call(lambda server: server.kv.Range, request)
            dead.start()
        await servers.close()
    told = [(record.levelname, str(record.args)) for record in caplog.records]
    one, two = own_etcd.url[7:], other.url[7:]
    assert [(level, one in text, two in text) for level, text in told] == [
        ("WARNING", True, False),
        ("INFO", True, False),
        ("WARNING", False, True),
    ]


async def test_a_silent_first_endpoint_leaves_time_for_the_second(etcd: Etcd) -> None:
    """It accepts connections, as a frozen server does: only a deadline for each try
    tells, and one call must survive that."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = replace(etcd.settings("/silent"), endpoints=(url, etcd.url))
        async with opened(settings) as store:
            await acquire(store, IPS[0])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_names_and_addresses_go_there_without_a_proxy(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """gRPC heeds http_proxy, etcd's own client does not."""
    monkeypatch.setenv("http_proxy", dead_endpoint())
    monkeypatch.setenv("https_proxy", dead_endpoint())
    settings = replace(etcd.settings("/named"), endpoints=(f"{host}:{etcd.port}",))
    async with opened(settings) as store:
        await acquire(store, IPS[0])


async def test_no_server_at_all_is_said_in_one_line() -> None:
    endpoints = (dead_endpoint(), dead_endpoint())
    async with opened(EtcdSettings(endpoints)) as store:
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(StoreUnavailable) as caught:
                await store.network_config()
        status = store.status()
    text = str(caught.value)
    assert "\n" not in text
    assert text.count("Connection refused") == 2
    for endpoint in endpoints:
        assert endpoint.removeprefix("http://") in text
    assert (status.connected, status.error) == (False, text)


async def test_who_has_answered_once_is_not_suspected_to_speak_tls(
    own_etcd: Etcd,
) -> None:
    """What a wrong scheme looks like is then something else."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with opened(own_etcd.settings()) as store:
        await acquire(store, IPS[0])
        own_etcd.stop()
        said = ""
        async with await asyncio.start_server(hang_up, "127.0.0.1", own_etcd.port):
            while not re.search("ocket closed|Connection reset", said):
                with pytest.raises(StoreUnavailable) as caught:
                    await store.network_config()
                said = str(caught.value)
    assert "://" not in said


async def test_a_frozen_server_does_not_hold_a_call_for_ever(own_etcd: Etcd) -> None:
    async with opened(own_etcd.settings()) as store:
        lease = await acquire(store, IPS[0])
        own_etcd.freeze()
        async with asyncio.timeout(DEADLINE):
            errors = await asyncio.gather(
                store.network_config(), store.renew(lease), return_exceptions=True
            )
        assert [type(error) for error in errors] == [StoreUnavailable] * 2
        assert all("no answer in time" in str(error) for error in errors)
        own_etcd.thaw()
        await store.renew(lease)


async def test_close_ends_a_call_under_way(own_etcd: Etcd) -> None:
    async with opened(own_etcd.settings()) as store:
        await acquire(store, IPS[0])
        own_etcd.freeze()
        call = asyncio.create_task(store.network_config())
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await call


async def test_a_call_can_be_cancelled(own_etcd: Etcd) -> None:
    async with opened(own_etcd.settings()) as store:
        own_etcd.freeze()
        call = asyncio.create_task(store.network_config())
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def answered(call: Callable[[], Awaitable[object]]) -> None:
    """Call until it is answered, as the agent does."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(StoreUnavailable):
                await call()
                return


async def test_members_die_and_another_answers(tmp_path: Path) -> None:
    """One is frozen and then killed; it may have been the leader."""
    with running_cluster(tmp_path) as members:
        first, _, last = members
        settings = EtcdSettings(tuple(member.url for member in members))
        async with (
            opened(settings) as store,
            last.client() as client,
            watching(store) as watcher,
        ):
            lease = await acquire(store, IPS[0])
            await watcher.snapshot()
            first.freeze()
            await answered(lambda: store.renew(lease))
            first.stop()
            await client.put(PEER, attrs_of(IPS[1]).encode())
            await watcher.until([lease.subnet, network("10.5.200.0/24")])
            assert store.status().resyncs == 0


# The process.

SCRIPT = """
import asyncio, sys
from ipaddress import IPv4Address

import cffi, msgspec, pyroute2, uvloop  # what the daemon has besides

from flannelette.control.etcd.store import EtcdStore
from flannelette.control.etcd.settings import EtcdSettings
from flannelette.control.lease import LeaseAttrs
from flannelette.control.netconfig import NetworkConfig

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if "VmRSS" in line)

async def main(url):
    store = EtcdStore(EtcdSettings((url,), "/process"))
    attrs = LeaseAttrs(IPv4Address("192.0.2.1"))
    config = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
    lease = await store.acquire(attrs, config, None)
    events = store.watch()
    await anext(events)
    await store.renew(lease)
    await anext(events)
    print(resident())
    await store.close()
    assert [event async for event in events] == []

factory = uvloop.new_event_loop if sys.argv[2] == "uvloop" else None
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_process_of_its_own(etcd: Etcd, loop: str) -> None:
    """Every warning is an error and nothing is left open, on both loops; and an idle
    daemon on etcd stays small."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT, etcd.url, loop],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) < 80 * 1024


async def test_close_does_not_leave_connections_to_the_garbage_collector(
    etcd: Etcd,
) -> None:
    """A failed call kept the channel alive in a cycle; it went on reconnecting."""
    gc.disable()
    try:
        async with EtcdProxy(etcd) as proxy:
            proxy.before = lose("Range", times=1000)
            settings = proxy.settings("/cycle")
            async with opened(settings) as store:
                with pytest.raises(StoreUnavailable):
                    await store.network_config()
            _, _, port = settings.addresses[0].rpartition(":")
            await eventually(lambda: not connections(int(port)))
    finally:
        gc.enable()


def connections(port: int) -> list[Any]:
    """Ours to a port, as a client."""
    every = psutil.Process().net_connections("tcp")
    return [each for each in every if each.raddr and each.raddr.port == port]


async def test_nothing_is_left_behind(etcd: Etcd) -> None:
    """No descriptor and no task, however often a store is opened."""

    async def use() -> None:
        async with opened(etcd.settings("/left")) as store:
            await acquire(store, IPS[0])
            async with watching(store) as watcher:
                await watcher.snapshot()

    process = psutil.Process()
    await use()
    gc.collect()
    tasks, descriptors = asyncio.all_tasks(), process.num_fds()
    for _ in range(10):
        await use()
    gc.collect()
    await eventually(lambda: asyncio.all_tasks() <= tasks)
    await eventually(lambda: process.num_fds() <= descriptors)
