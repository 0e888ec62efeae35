"""Is what our key holds ours? After lost answers, and beside other writers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from flannelette.control.errors import LeaseLost, StoreUnavailable
from flannelette.control.etcd import servers
from tests.helpers.etcd import require_etcd, settled as settled
from tests.helpers.etcdplace import KEY, SUBNET, Place
from tests.helpers.etcdproxy import EtcdProxy, Lost, lose, nothing
from tests.helpers.storerig import IPS, acquire, attrs_of, eventually, network

require_etcd()


# Answers that never arrive.


async def test_a_create_whose_answer_is_lost_is_not_repeated(
    proxy: EtcdProxy, proxied: Place
) -> None:
    proxy.after = lose("Txn")
    lease = await acquire(proxied.store, IPS[0], SUBNET)
    assert lease.subnet == network(SUBNET)
    assert (await proxied.stored(lease)).revision == lease.revision
    assert proxy.calls.count("Txn") == 1
    assert len(await proxied.entries()) == 1


async def test_a_create_that_never_arrived_is_sent_after_a_look(
    proxy: EtcdProxy, proxied: Place
) -> None:
    proxy.before = lose("Txn")
    lease = await acquire(proxied.store, IPS[0], SUBNET)
    assert lease.subnet == network(SUBNET)
    assert proxy.calls == [
        *("Range", "LeaseGrant", "Txn"),
        *("Range", "Txn"),
    ]
    assert (await proxied.stored(lease)).revision == lease.revision


async def test_a_lost_create_that_another_node_overtook(
    proxy: EtcdProxy, proxied: Place
) -> None:
    async def overtake(method: str) -> None:
        if method == "Txn" and proxy.calls.count("Txn") == 1:
            await proxied.client.put(proxied.key(KEY), attrs_of(IPS[1]).encode())
            raise Lost

    proxy.before = overtake
    lease = await acquire(proxied.store, IPS[0], SUBNET)
    assert lease.subnet != network(SUBNET)
    assert (await proxied.entries())[f"subnets/{KEY}"].value == attrs_of(
        IPS[1]
    ).encode()


async def test_a_write_that_arrives_late_changes_nothing(
    proxy: EtcdProxy, proxied: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two transactions of ours are under way; the guard admits one of them."""
    lease = await acquire(proxied.store, IPS[0], SUBNET)
    monkeypatch.setattr(servers, "PER_TRY", 0.3)
    go, applied = asyncio.Event(), []

    async def hold(method: str) -> None:
        if method == "Txn" and proxy.calls.count("Txn") == 2:
            await go.wait()

    async def arrived(method: str) -> None:
        if method == "Txn":
            applied.append(method)

    proxy.before, proxy.after = hold, arrived
    renewed = await proxied.store.renew(lease)
    stored = await proxied.stored(lease)
    assert stored.revision == renewed.revision
    assert len(applied) == 1
    go.set()
    await eventually(lambda: len(applied) == 2)
    assert await proxied.stored(lease) == stored


async def test_a_renewal_whose_answer_is_lost_is_not_repeated(
    proxy: EtcdProxy, proxied: Place, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await acquire(proxied.store, IPS[0])
    proxy.after = lose("Txn")
    renewed = await proxied.store.renew(lease)
    assert renewed.revision == (await proxied.stored(lease)).revision > lease.revision
    assert proxy.calls.count("Txn") == 2
    assert "another daemon" not in caplog.text


async def test_a_renewal_that_never_arrived_is_sent_after_a_look(
    proxy: EtcdProxy, proxied: Place
) -> None:
    """The value in the key is ours all the time: only its etcd lease tells."""
    lease = await acquire(proxied.store, IPS[0])
    before = await proxied.stored(lease)
    proxy.before = lose("Txn")
    renewed = await proxied.store.renew(lease)
    after = await proxied.stored(lease)
    assert after.revision == renewed.revision > before.revision
    assert after.lease != before.lease


async def test_an_unknown_outcome_is_recognised_as_ours_later(
    proxy: EtcdProxy,
    proxied: Place,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The renewal was applied, then etcd was gone; the agent tries again with what
    it knows."""
    lease = await acquire(proxied.store, IPS[0])
    monkeypatch.setattr(servers, "BUDGET", 0.3)

    async def after_the_renewal(method: str) -> None:
        if proxy.calls.count("Txn") == 2:
            raise Lost

    proxy.before = lose("Range", times=1000)
    proxy.after = after_the_renewal
    with pytest.raises(StoreUnavailable):
        await proxied.store.renew(lease)
    written = await proxied.stored(lease)
    assert written.revision > lease.revision
    proxy.before = proxy.after = nothing
    renewed = await proxied.store.renew(lease)
    assert renewed.revision > written.revision
    assert "another daemon" not in caplog.text


# Other writers.


@pytest.mark.parametrize("same_value", [True, False])
async def test_a_daemon_with_our_public_ip_is_warned_of_once(
    place: Place, caplog: pytest.LogCaptureFixture, same_value: bool
) -> None:
    """H3. The lease stays ours, with our attributes."""
    lease = await acquire(place.store, IPS[0])
    theirs = lease.attrs if same_value else replace(lease.attrs, backend_data="{}")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await place.client.put(place.key(lease.key), theirs.encode(), ttl=3600)
            lease = await place.store.renew(lease)
    stored = await place.stored(lease)
    assert (stored.value, stored.revision) == (
        attrs_of(IPS[0]).encode(),
        lease.revision,
    )
    assert await place.client.time_to_live(stored.lease) > 3600
    assert caplog.text.count("public IP") == 1


async def test_the_holder_is_named(place: Place) -> None:
    lease = await acquire(place.store, IPS[0])
    await place.client.put(place.key(lease.key), attrs_of(IPS[1]).encode())
    for call in (place.store.renew, place.store.reacquire):
        with pytest.raises(LeaseLost, match=IPS[1]):
            await call(lease)


async def test_our_key_with_a_value_that_is_no_lease_is_lost(place: Place) -> None:
    lease = await acquire(place.store, IPS[0])
    await place.client.put(place.key(lease.key), b"\xff")
    for call in (place.store.renew, place.store.reacquire):
        with pytest.raises(LeaseLost, match="no lease"):
            await call(lease)
    assert (await place.stored(lease)).value == b"\xff"


async def test_a_withdrawn_reservation_is_not_restored_as_one(place: Place) -> None:
    """The operator has deleted it; we go on as any node does."""
    await place.client.put(place.key(KEY), attrs_of(IPS[0]).encode())
    lease = await acquire(place.store, IPS[0])
    assert lease.permanent
    await place.client.delete(place.key(KEY))
    again = await place.store.reacquire(lease)
    assert not again.permanent
    assert (await place.stored(again)).lease != 0
