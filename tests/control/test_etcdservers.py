"""Servers that are dead, frozen, forbidding or behind TLS; and a clean process."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import pytest

from flannelette.control import etcdservers
from flannelette.control.errors import StoreError, StoreUnavailable
from flannelette.control.etcd import EtcdStore
from flannelette.control.etcdsettings import EtcdSettings
from tests.helpers.etcd import (
    DEADLINE,
    Client,
    Etcd,
    TLSPaths,
    free_ports,
    make_tls,
    require_etcd,
    running_cluster,
    running_etcd,
    settled as settled,
)
from tests.helpers.etcdproxy import EtcdProxy, lose
from tests.helpers.storerig import (
    CONFIG,
    IPS,
    acquire,
    attrs_of,
    eventually,
    network,
    watching,
)

require_etcd()

PASSWORD = "correct-horse"
PREFIX = "/coreos.com/network"
CONFIG_KEY = f"{PREFIX}/config"
PEER = f"{PREFIX}/subnets/10.5.200.0-24"


@asynccontextmanager
async def opened(settings: EtcdSettings) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(settings)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with running_etcd(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """One that the test may stop and freeze."""
    with running_etcd(tmp_path) as etcd:
        yield etcd


# Endpoints.


def dead_endpoint() -> str:
    return f"http://127.0.0.1:{free_ports(1)[0]}"


async def test_a_dead_first_endpoint_is_passed_over(etcd: Etcd) -> None:
    """E36: flanneld's own default has two, of which one is dead."""
    settings = replace(etcd.settings("/dead"), endpoints=(dead_endpoint(), etcd.url))
    async with opened(settings) as store, etcd.client() as client:
        lease = await acquire(store, IPS[0])
        async with watching(store) as watcher:
            assert len((await watcher.snapshot()).leases) == 1
            await client.put("/dead/subnets/10.5.200.0-24", attrs_of(IPS[1]).encode())
            await watcher.added()
        await store.renew(lease)


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


# TLS.


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLSPaths:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_etcd(tls: TLSPaths, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with running_etcd(tmp_path_factory.mktemp("etcd"), tls) as etcd:
        yield etcd


async def test_tls_with_a_client_certificate(tls_etcd: Etcd) -> None:
    """E36, E37."""
    async with opened(tls_etcd.settings()) as store:
        lease = await acquire(store, IPS[0])
        async with watching(store) as watcher:
            await watcher.snapshot()
            await eventually(lambda: store.status().connected)
        await store.renew(lease)


async def refusal(settings: EtcdSettings) -> str:
    """Why a store with these settings cannot read the configuration."""
    # It is known at once, and tried again until the budget is used up.
    quick = patch.object(etcdservers, "BUDGET", 1.5)
    with quick, pytest.raises(StoreError) as caught:
        async with opened(settings) as store:
            await store.network_config()
    text = str(caught.value)
    assert "\n" not in text
    return text


async def test_a_ca_file_alone_is_enough_for_a_server_that_asks_no_more(
    tls: TLSPaths, tmp_path: Path
) -> None:
    """Where flanneld ignores it (E37)."""
    with running_etcd(tmp_path, tls, client_certificates=False) as etcd:
        settings = EtcdSettings((etcd.url,), cafile=tls.ca)
        async with opened(settings) as store:
            await acquire(store, IPS[0])


async def test_a_server_of_another_authority_is_not_trusted(
    tls_etcd: Etcd, tmp_path: Path
) -> None:
    other = make_tls(tmp_path)
    text = await refusal(replace(tls_etcd.settings(), cafile=other.ca))
    assert "CERTIFICATE_VERIFY_FAILED" in text


async def test_without_a_ca_file_the_systems_authorities_decide(
    tls_etcd: Etcd, tls: TLSPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E37: not those that gRPC brings along."""
    settings = replace(tls_etcd.settings(), cafile="")
    assert "CERTIFICATE_VERIFY_FAILED" in await refusal(settings)
    monkeypatch.setenv("SSL_CERT_FILE", tls.ca)
    async with opened(settings) as store:
        await acquire(store, IPS[1])


async def test_a_server_under_another_name_is_not_trusted(tmp_path: Path) -> None:
    tls = make_tls(tmp_path, "127.0.0.2")
    with running_etcd(tmp_path, tls) as etcd:
        text = await refusal(etcd.settings())
    assert "Hostname Verification Check failed" in text


@pytest.mark.parametrize("strange", [False, True])
async def test_a_server_that_wants_another_client_certificate(
    tls_etcd: Etcd, tmp_path: Path, strange: bool
) -> None:
    other = make_tls(tmp_path)
    settings = replace(
        tls_etcd.settings(),
        certfile=other.client_cert if strange else "",
        keyfile=other.client_key if strange else "",
    )
    assert "client certificate" in await refusal(settings)


async def test_plaintext_and_tls_do_not_meet(
    etcd: Etcd, tls_etcd: Etcd, tls: TLSPaths
) -> None:
    https = etcd.url.replace("http:", "https:")
    http = tls_etcd.url.replace("https:", "http:")
    texts = await asyncio.gather(
        refusal(EtcdSettings((https,), cafile=tls.ca)), refusal(EtcdSettings((http,)))
    )
    assert "not to speak TLS" in texts[0]
    assert "ocket closed" in texts[1]


# Users.


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Etcd]:
    """With the users `flannel`, who may use PREFIX, and `guest`, who may not."""
    with running_etcd(tmp_path, arguments=["--bcrypt-cost", "4"]) as etcd:
        async with etcd.client() as client:
            await client.put(CONFIG_KEY, CONFIG)
            await client.add_user("flannel", PASSWORD, f"{PREFIX}/")
            await client.add_user("guest", PASSWORD, "/elsewhere/")
            await client.enable_auth("root-password")
        yield etcd


@asynccontextmanager
async def root(etcd: Etcd) -> AsyncIterator[Client]:
    async with etcd.client() as client:
        await client.log_in("root", "root-password")
        yield client


async def test_a_user_and_password(
    secured: Etcd, caplog: pytest.LogCaptureFixture
) -> None:
    """E38."""
    settings = secured.settings(username="flannel", password=PASSWORD)
    with caplog.at_level(logging.DEBUG):
        async with opened(settings) as store, watching(store) as watcher:
            await watcher.snapshot()
            assert await store.network_config() == CONFIG
            lease = await acquire(store, IPS[0])
            assert (await watcher.added()).subnet == lease.subnet
            await store.renew(lease)
            assert PASSWORD not in repr(store) + repr(settings)
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("restart", [False, True])
async def test_a_lost_token_is_fetched_anew_for_a_call(
    secured: Etcd, restart: bool
) -> None:
    """etcd's simple tokens live in its memory, for five idle minutes."""
    settings = secured.settings(username="flannel", password=PASSWORD)
    async with opened(settings) as store, root(secured) as client:
        lease = await acquire(store, IPS[0])
        await client.drop_tokens("flannel", PASSWORD)
        if restart:
            secured.stop()
            secured.start()
        renewed = await store.renew(lease)
        assert renewed.revision != lease.revision


async def test_a_lost_token_is_fetched_anew_for_a_watch(
    secured: Etcd, caplog: pytest.LogCaptureFixture
) -> None:
    """The watch is the only one who speaks; etcd 3.4 says `permission denied`."""
    settings = secured.settings(username="flannel", password=PASSWORD)
    async with opened(settings) as store, watching(store) as watcher:
        await watcher.snapshot()
        async with root(secured) as client:
            await client.put(PEER, attrs_of(IPS[1]).encode())
            await watcher.added()
            await client.drop_tokens("flannel", PASSWORD)
        secured.stop()
        secured.start()
        async with root(secured) as client:
            await client.put(PEER, attrs_of(IPS[2]).encode())
        assert (await watcher.added()).attrs == attrs_of(IPS[2])
        assert store.status().resyncs == 0


async def test_one_login_for_all(secured: Etcd) -> None:
    async with EtcdProxy(secured) as proxy, root(secured) as client:
        settings = replace(
            proxy.settings(PREFIX), username="flannel", password=PASSWORD
        )
        async with opened(settings) as store:
            for logins in (1, 2, 3):
                await asyncio.gather(*(store.network_config() for _ in range(20)))
                assert proxy.calls.count("Authenticate") == logins
                await client.drop_tokens("flannel", PASSWORD)


async def test_a_late_refusal_of_the_old_token_costs_no_login(secured: Etcd) -> None:
    async with EtcdProxy(secured) as proxy, root(secured) as client:
        settings = replace(
            proxy.settings(PREFIX), username="flannel", password=PASSWORD
        )
        async with opened(settings) as store:
            await store.network_config()
            await client.drop_tokens("flannel", PASSWORD)
            go = asyncio.Event()

            async def hold_the_first(method: str) -> None:
                if proxy.calls == ["Range"]:
                    await go.wait()

            proxy.calls.clear()
            proxy.before = hold_the_first
            late = asyncio.create_task(store.network_config())
            await eventually(lambda: proxy.calls == ["Range"])
            await store.network_config()
            go.set()
            await late
            assert proxy.calls.count("Authenticate") == 1


async def test_a_user_where_etcd_wants_none(etcd: Etcd) -> None:
    """E38: tolerated."""
    settings = etcd.settings("/open", username="flannel", password=PASSWORD)
    async with opened(settings) as store:
        await acquire(store, IPS[0])


async def test_authentication_that_is_switched_on_later(own_etcd: Etcd) -> None:
    settings = own_etcd.settings(username="flannel", password=PASSWORD)
    async with opened(settings) as store:
        lease = await acquire(store, IPS[0])
        async with own_etcd.client() as client:
            await client.add_user("flannel", PASSWORD, f"{PREFIX}/")
            await client.enable_auth("root-password")
        await store.renew(lease)


@pytest.mark.parametrize(
    ("username", "password"),
    [("flannel", "wrong-horse"), ("stranger", PASSWORD), ("", "")],
)
async def test_a_wrong_user_or_password_is_refused(
    secured: Etcd, username: str, password: str
) -> None:
    settings = secured.settings(username=username, password=password)
    text = await refusal(settings)
    assert "etcd refuses" in text
    assert repr(username) in text
    assert not password or password not in text
    async with opened(settings) as store:
        with pytest.raises(StoreError, match="etcd refuses"):
            await acquire(store, IPS[0])


async def test_a_forbidden_prefix_is_refused_and_does_not_hang(
    secured: Etcd, caplog: pytest.LogCaptureFixture
) -> None:
    settings = secured.settings(username="guest", password=PASSWORD)
    async with opened(settings) as store:
        for call in (store.network_config(), acquire(store, IPS[0])):
            with pytest.raises(StoreError, match="permission denied") as caught:
                await call
            assert PREFIX in str(caught.value)
            assert not isinstance(caught.value, StoreUnavailable)
        async with watching(store):
            await eventually(lambda: "not watched" in caplog.text)
            assert "permission denied" in (store.status().error or "")
        assert caplog.text.count("permission denied") == 1


async def test_a_permission_that_goes_and_comes_back(secured: Etcd) -> None:
    """The watch asks again; it does not take a refusal for an empty store."""
    settings = secured.settings(username="flannel", password=PASSWORD)
    async with opened(settings) as store, watching(store) as watcher:
        await watcher.snapshot()
        async with root(secured) as client:
            await client.put(PEER, attrs_of(IPS[1]).encode())
            await watcher.added()
            await client.forbid("flannel", f"{PREFIX}/")
        secured.stop()
        secured.start()
        await eventually(lambda: "denied" in (store.status().error or ""))
        async with root(secured) as client:
            await client.permit("flannel", f"{PREFIX}/")
            await client.put(PEER, attrs_of(IPS[2]).encode())
        assert (await watcher.added()).attrs == attrs_of(IPS[2])
        assert store.status().resyncs == 0


# The process.

SCRIPT = """
import asyncio, sys
from ipaddress import IPv4Address

import cffi, msgspec, pyroute2, uvloop  # what the daemon has besides

from flannelette.control.etcd import EtcdStore
from flannelette.control.etcdsettings import EtcdSettings
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


def test_a_handshake_that_fails_writes_nothing_to_stderr(
    tls_etcd: Etcd, tmp_path: Path
) -> None:
    """gRPC's C core does, once a second, unless told otherwise."""
    other = make_tls(tmp_path)
    script = (
        "import asyncio, sys\n"
        "from flannelette.control.errors import StoreUnavailable\n"
        "from flannelette.control.etcd import EtcdStore, EtcdSettings\n"
        "async def main():\n"
        "    store = EtcdStore(EtcdSettings((sys.argv[1],), cafile=sys.argv[2]))\n"
        "    try:\n"
        "        await store.network_config()\n"
        "    except StoreUnavailable:\n"
        "        print('refused')\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tls_etcd.url, other.ca],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")


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
