"""EtcdStore's writes on a real etcd: what the contract cannot see, and lost answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Network
from itertools import count

import pytest

from flannelette.control.errors import LeaseLost, StoreUnavailable
from flannelette.control.etcd import servers
from flannelette.control.etcd.store import TRIES, EtcdStore
from flannelette.control.lease import Lease, LeaseAttrs, Subnets, parse_subnet_key
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.store import LEASE_TTL
from tests.helpers.etcd import Etcd, require_etcd, settled as settled
from tests.helpers.etcdclient import Client, Stored
from tests.helpers.etcdproxy import EtcdProxy, Lost, lose, nothing
from tests.helpers.storerig import (
    CONFIG,
    DEADLINE,
    DUAL,
    IPS,
    acquire,
    attrs_of,
    dual_attrs_of,
    eventually,
    network,
    subnets,
    watching,
)

require_etcd()

_numbers = count()

SUBNET = "10.5.7.0/24"
KEY = "10.5.7.0-24"


@dataclass
class Place:
    """A prefix of its own, reached directly and through a proxy."""

    prefix: str
    client: Client
    proxy: EtcdProxy
    store: EtcdStore
    """Through the proxy."""
    direct: Callable[[], EtcdStore]

    async def entries(self) -> dict[str, Stored]:
        """What is stored below the prefix, by the rest of the key."""
        start = f"{self.prefix}/".encode()
        return {
            key.removeprefix(start).decode(): stored
            for key, stored in (await self.client.all()).items()
            if key.startswith(start)
        }

    async def stored(self, lease: Lease) -> Stored:
        return (await self.entries())[f"subnets/{lease.key}"]

    def key(self, name: str) -> str:
        return f"{self.prefix}/subnets/{name}"


@pytest.fixture
async def place(etcd: Etcd) -> AsyncIterator[Place]:
    prefix = f"/store/{next(_numbers)}"
    stores: list[EtcdStore] = []

    def direct() -> EtcdStore:
        stores.append(EtcdStore(etcd.settings(prefix)))
        return stores[-1]

    async with etcd.client() as client, EtcdProxy(etcd) as proxy:
        stores.append(EtcdStore(proxy.settings(prefix)))
        yield Place(prefix, client, proxy, stores[0], direct)
        for store in stores:
            await store.close()


# What is written.


async def test_the_exact_key_value_and_lease_time(place: Place) -> None:
    """E2, E3, E17, L3."""
    attrs = LeaseAttrs(IPv4Address("1.2.3.4"))
    config = NetworkConfig.parse(CONFIG)
    lease = await place.store.acquire(attrs, config, Subnets(network("10.5.52.0/24")))
    (entry,) = (await place.entries()).items()
    key, stored = entry
    assert key == "subnets/10.5.52.0-24"
    assert stored.value == b'{"PublicIP":"1.2.3.4","PublicIPv6":null}'
    assert stored.revision == lease.revision
    left = await place.client.time_to_live(stored.lease)
    assert LEASE_TTL - 60 < left <= LEASE_TTL
    assert lease.expires is not None
    assert abs(lease.expires - time.time() - left) < 60


async def test_nothing_else_is_ever_written(place: Place) -> None:
    """H1: any other key below subnets/ empties the tables of real peers."""
    await place.client.put(f"{place.prefix}/config", CONFIG)
    lease = await acquire(place.store, IPS[0])
    await place.store.renew(lease)
    await place.client.delete(place.key(lease.key))
    await place.store.reacquire(lease)
    assert set(await place.entries()) == {"config", f"subnets/{lease.key}"}


async def test_only_the_directory_is_read(place: Place) -> None:
    """H1: flanneld ranges over `<prefix>/subnets` and so over these."""
    value = attrs_of(IPS[1]).encode()
    for key in ("subnets", "subnets_meta", "subnets0", "subnets-10.5.1.0-24"):
        await place.client.put(f"{place.prefix}/{key}", value)
    for key in ("a/10.5.1.0-24", "/10.5.1.0-24", "10.5.1.0-24/"):
        await place.client.put(place.key(key), value)
    async with watching(place.store) as watcher:
        assert (await watcher.snapshot()).leases == ()
    assert place.store.status().skipped == 3


async def test_a_renewed_lease_no_longer_hangs_on_the_old_etcd_lease(
    place: Place,
) -> None:
    """E20: a new grant each time; the old one is left to run out."""
    lease = await acquire(place.store, IPS[0])
    before = await place.stored(lease)
    await place.store.renew(lease)
    after = await place.stored(lease)
    assert after.value == before.value == attrs_of(IPS[0]).encode()
    assert after.lease != before.lease
    await place.client.revoke(before.lease)
    assert await place.stored(lease) == after


async def test_a_lease_of_another_network_goes_in_the_same_transaction(
    place: Place,
) -> None:
    """E14. No instant without a lease, and none with two."""
    old = place.key("10.3.9.0-24")
    await place.client.put(old, attrs_of(IPS[0]).encode(), ttl=3600)
    lease = await acquire(place.store, IPS[0])
    assert set(await place.entries()) == {f"subnets/{lease.key}"}
    assert place.proxy.calls.count("Txn") == 1


async def test_a_stale_lease_that_changes_meanwhile_is_looked_at_again(
    place: Place,
) -> None:
    key = place.key("10.3.9.0-24")
    await place.client.put(key, attrs_of(IPS[0]).encode(), ttl=3600)

    async def reserve(method: str) -> None:
        if method == "Txn" and place.proxy.calls.count("Txn") == 1:
            await place.client.put(key, attrs_of(IPS[0]).encode())

    place.proxy.before = reserve
    lease = await acquire(place.store, IPS[0])
    # By now it is an operator's reservation, and those are not deleted.
    assert set(await place.entries()) == {f"subnets/{lease.key}", "subnets/10.3.9.0-24"}


# Races.


async def test_twenty_nodes_at_the_same_instant_all_differ(place: Place) -> None:
    """E17, E18: on the only twenty subnets there are."""
    config = (
        b'{"Network": "10.5.0.0/16", "SubnetLen": 24, '
        b'"SubnetMin": "10.5.1.0", "SubnetMax": "10.5.20.0"}'
    )
    ips = [f"192.0.2.{n}" for n in range(1, 21)]
    leases = await asyncio.gather(
        *(acquire(place.direct(), ip, config=config) for ip in ips)
    )
    assert {lease.subnet for lease in leases} == {
        network(f"10.5.{n}.0/24") for n in range(1, 21)
    }
    assert len(await place.entries()) == 20


async def test_a_lost_race_picks_again_and_leaves_no_etcd_lease(place: Place) -> None:
    """E17, E18, H7."""
    theirs = attrs_of(IPS[1]).encode()

    async def overtake(method: str) -> None:
        if method == "Txn" and place.proxy.calls.count("Txn") == 1:
            await place.client.put(place.key(KEY), theirs)

    place.proxy.before = overtake
    before = await place.client.leases()
    lease = await acquire(place.store, IPS[0], SUBNET)
    assert lease.subnet != network(SUBNET)
    entries = await place.entries()
    assert entries[f"subnets/{KEY}"].value == theirs
    ours = entries[f"subnets/{lease.key}"]
    assert await place.client.leases() - before == {ours.lease}


DUAL_KEY = "10.5.7.0-24&fd00:5:0:7::-64"
DUAL_SUBNETS = subnets("10.5.7.0/24", "fd00:5:0:7::/64")


@pytest.mark.parametrize(
    "theirs", ["10.5.9.0-24&fd00:5:0:7::-64", "10.5.7.0-24&fd00:5:0:9::-64"]
)
async def test_a_dual_key_with_one_of_our_subnets_wins_the_race(
    place: Place, theirs: str
) -> None:
    """H7: our own key is absent, and still we must not create it."""

    async def overtake(method: str) -> None:
        if method == "Txn" and place.proxy.calls.count("Txn") == 1:
            await place.client.put(place.key(theirs), dual_attrs_of(IPS[1]).encode())

    place.proxy.before = overtake
    before = await place.client.leases()
    lease = await acquire(place.store, IPS[0], DUAL_SUBNETS, DUAL)
    assert not lease.subnets.overlaps(parse_subnet_key(theirs))
    entries = await place.entries()
    assert set(entries) == {f"subnets/{theirs}", f"subnets/{lease.key}"}
    ours = entries[f"subnets/{lease.key}"]
    assert await place.client.leases() - before == {ours.lease}


async def test_a_dual_key_wins_the_race_for_a_revoked_lease(place: Place) -> None:
    lease = await acquire(place.store, IPS[0], DUAL_SUBNETS, DUAL)
    await place.client.delete(place.key(DUAL_KEY))
    place.proxy.calls.clear()

    async def overtake(method: str) -> None:
        if method == "Txn" and place.proxy.calls.count("Txn") == 1:
            theirs = place.key("10.5.9.0-24&fd00:5:0:7::-64")
            await place.client.put(theirs, dual_attrs_of(IPS[1]).encode())

    place.proxy.before = overtake
    with pytest.raises(LeaseLost, match=IPS[1]):
        await place.store.reacquire(lease)
    assert set(await place.entries()) == {"subnets/10.5.9.0-24&fd00:5:0:7::-64"}


async def test_renewals_and_deletions_of_others_are_no_race(place: Place) -> None:
    """A cluster of thousands renews all the time."""
    theirs, gone = (place.key(f"10.5.{n}.0-24&fd00:5:0:{n}::-64") for n in (8, 9))
    value = dual_attrs_of(IPS[1]).encode()
    await place.client.put(theirs, value)
    await place.client.put(gone, value)

    async def renew(method: str) -> None:
        if method == "Txn":
            await place.client.put(theirs, value)
            await place.client.delete(gone)

    place.proxy.before = renew
    lease = await acquire(place.store, IPS[0], DUAL_SUBNETS, DUAL)
    assert lease.subnets == DUAL_SUBNETS
    assert place.proxy.calls.count("Txn") == 1


async def test_a_dual_create_whose_answer_is_lost_is_not_repeated(
    place: Place,
) -> None:
    """Nor is it taken for another node's, which is created since the listing too."""
    place.proxy.after = lose("Txn")
    lease = await acquire(place.store, IPS[0], DUAL_SUBNETS, DUAL)
    assert lease.subnets == DUAL_SUBNETS
    assert (await place.stored(lease)).revision == lease.revision
    assert place.proxy.calls.count("Txn") == 1
    assert len(await place.entries()) == 1


async def test_twenty_dual_nodes_at_the_same_instant_all_differ(place: Place) -> None:
    """E16, E17: on the only twenty IPv6 subnets; their IPv4 subnets hardly collide."""
    config = (
        b'{"Network": "10.0.0.0/8", "EnableIPv6": true, "IPv6Network": "fd00:5::/48", '
        b'"IPv6SubnetMin": "fd00:5:0:1::", "IPv6SubnetMax": "fd00:5:0:14::"}'
    )
    ips = [f"192.0.2.{n}" for n in range(1, 21)]

    async def patient(public_ip: str) -> Lease:
        store = place.direct()
        while True:
            with suppress(StoreUnavailable):  # lost too many races; the agent goes on
                return await acquire(store, public_ip, config=config)

    async with asyncio.timeout(DEADLINE):
        leases = await asyncio.gather(*map(patient, ips))
    assert {lease.subnet6 for lease in leases} == {
        IPv6Network(f"fd00:5:0:{n:x}::/64") for n in range(1, 21)
    }
    assert len({lease.subnet for lease in leases}) == 20
    assert len(await place.entries()) == 20


async def test_a_race_that_never_ends_is_given_up(place: Place) -> None:
    await place.client.put(place.key(KEY), attrs_of(IPS[0]).encode(), ttl=3600)

    async def overtake(method: str) -> None:
        if method == "Txn":
            await place.client.put(place.key(KEY), attrs_of(IPS[0]).encode(), ttl=60)

    place.proxy.before = overtake
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(StoreUnavailable, match="race"):
            await acquire(place.store, IPS[0])
    assert place.proxy.calls.count("Txn") == TRIES


# Answers that never arrive.


async def test_a_create_whose_answer_is_lost_is_not_repeated(place: Place) -> None:
    place.proxy.after = lose("Txn")
    lease = await acquire(place.store, IPS[0], SUBNET)
    assert lease.subnet == network(SUBNET)
    assert (await place.stored(lease)).revision == lease.revision
    assert place.proxy.calls.count("Txn") == 1
    assert len(await place.entries()) == 1


async def test_a_create_that_never_arrived_is_sent_after_a_look(place: Place) -> None:
    place.proxy.before = lose("Txn")
    lease = await acquire(place.store, IPS[0], SUBNET)
    assert lease.subnet == network(SUBNET)
    assert place.proxy.calls == [
        *("Range", "LeaseGrant", "Txn"),
        *("Range", "Txn"),
    ]
    assert (await place.stored(lease)).revision == lease.revision


async def test_a_lost_create_that_another_node_overtook(place: Place) -> None:
    async def overtake(method: str) -> None:
        if method == "Txn" and place.proxy.calls.count("Txn") == 1:
            await place.client.put(place.key(KEY), attrs_of(IPS[1]).encode())
            raise Lost

    place.proxy.before = overtake
    lease = await acquire(place.store, IPS[0], SUBNET)
    assert lease.subnet != network(SUBNET)
    assert (await place.entries())[f"subnets/{KEY}"].value == attrs_of(IPS[1]).encode()


async def test_a_write_that_arrives_late_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two transactions of ours are under way; the guard admits one of them."""
    lease = await acquire(place.store, IPS[0], SUBNET)
    monkeypatch.setattr(servers, "PER_TRY", 0.3)
    go, applied = asyncio.Event(), []

    async def hold(method: str) -> None:
        if method == "Txn" and place.proxy.calls.count("Txn") == 2:
            await go.wait()

    async def arrived(method: str) -> None:
        if method == "Txn":
            applied.append(method)

    place.proxy.before, place.proxy.after = hold, arrived
    renewed = await place.store.renew(lease)
    stored = await place.stored(lease)
    assert stored.revision == renewed.revision
    assert len(applied) == 1
    go.set()
    await eventually(lambda: len(applied) == 2)
    assert await place.stored(lease) == stored


async def test_a_renewal_whose_answer_is_lost_is_not_repeated(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await acquire(place.store, IPS[0])
    place.proxy.after = lose("Txn")
    renewed = await place.store.renew(lease)
    assert renewed.revision == (await place.stored(lease)).revision > lease.revision
    assert place.proxy.calls.count("Txn") == 2
    assert "another daemon" not in caplog.text


async def test_a_renewal_that_never_arrived_is_sent_after_a_look(place: Place) -> None:
    """The value in the key is ours all the time: only its etcd lease tells."""
    lease = await acquire(place.store, IPS[0])
    before = await place.stored(lease)
    place.proxy.before = lose("Txn")
    renewed = await place.store.renew(lease)
    after = await place.stored(lease)
    assert after.revision == renewed.revision > before.revision
    assert after.lease != before.lease


async def test_an_unknown_outcome_is_recognised_as_ours_later(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The renewal was applied, then etcd was gone; the agent tries again with what
    it knows."""
    lease = await acquire(place.store, IPS[0])
    monkeypatch.setattr(servers, "BUDGET", 0.3)

    async def after_the_renewal(method: str) -> None:
        if place.proxy.calls.count("Txn") == 2:
            raise Lost

    place.proxy.before = lose("Range", times=1000)
    place.proxy.after = after_the_renewal
    with pytest.raises(StoreUnavailable):
        await place.store.renew(lease)
    written = await place.stored(lease)
    assert written.revision > lease.revision
    place.proxy.before = place.proxy.after = nothing
    renewed = await place.store.renew(lease)
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
