"""Users, passwords, tokens and permissions in etcd (E38)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from flannelette.control.errors import StoreError, StoreUnavailable
from tests.helpers.etcd import (
    Etcd,
    opened,
    refusal,
    require_etcd,
    running_etcd,
    settled as settled,
)
from tests.helpers.etcdclient import Client
from tests.helpers.etcdproxy import EtcdProxy
from tests.helpers.storerig import (
    CONFIG,
    IPS,
    acquire,
    attrs_of,
    eventually,
    watching,
)

require_etcd()

PASSWORD = "correct-horse"
PREFIX = "/coreos.com/network"
CONFIG_KEY = f"{PREFIX}/config"
PEER = f"{PREFIX}/subnets/10.5.200.0-24"


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
