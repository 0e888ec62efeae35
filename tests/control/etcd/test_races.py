"""EtcdStore when others write at the same instant, for the same subnets."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import IPv6Network

import pytest

from flannelette.control.errors import LeaseLost, StoreUnavailable
from flannelette.control.etcd.store import TRIES
from flannelette.control.lease import Lease, parse_subnet_key
from tests.helpers.etcd import require_etcd, settled as settled
from tests.helpers.etcdplace import KEY, SUBNET, Place
from tests.helpers.etcdproxy import EtcdProxy, lose
from tests.helpers.storerig import (
    DEADLINE,
    DUAL,
    IPS,
    acquire,
    attrs_of,
    dual_attrs_of,
    network,
    subnets,
)

require_etcd()


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


async def test_a_lost_race_picks_again_and_leaves_no_etcd_lease(
    proxy: EtcdProxy, proxied: Place
) -> None:
    """E17, E18, H7."""
    theirs = attrs_of(IPS[1]).encode()

    async def overtake(method: str) -> None:
        if method == "Txn" and proxy.calls.count("Txn") == 1:
            await proxied.client.put(proxied.key(KEY), theirs)

    proxy.before = overtake
    before = await proxied.client.leases()
    lease = await acquire(proxied.store, IPS[0], SUBNET)
    assert lease.subnet != network(SUBNET)
    entries = await proxied.entries()
    assert entries[f"subnets/{KEY}"].value == theirs
    ours = entries[f"subnets/{lease.key}"]
    assert await proxied.client.leases() - before == {ours.lease}


DUAL_KEY = "10.5.7.0-24&fd00:5:0:7::-64"
DUAL_SUBNETS = subnets("10.5.7.0/24", "fd00:5:0:7::/64")


@pytest.mark.parametrize(
    "theirs", ["10.5.9.0-24&fd00:5:0:7::-64", "10.5.7.0-24&fd00:5:0:9::-64"]
)
async def test_a_dual_key_with_one_of_our_subnets_wins_the_race(
    proxy: EtcdProxy, proxied: Place, theirs: str
) -> None:
    """H7: our own key is absent, and still we must not create it."""

    async def overtake(method: str) -> None:
        if method == "Txn" and proxy.calls.count("Txn") == 1:
            await proxied.client.put(
                proxied.key(theirs), dual_attrs_of(IPS[1]).encode()
            )

    proxy.before = overtake
    before = await proxied.client.leases()
    lease = await acquire(proxied.store, IPS[0], DUAL_SUBNETS, DUAL)
    assert not lease.subnets.overlaps(parse_subnet_key(theirs))
    entries = await proxied.entries()
    assert set(entries) == {f"subnets/{theirs}", f"subnets/{lease.key}"}
    ours = entries[f"subnets/{lease.key}"]
    assert await proxied.client.leases() - before == {ours.lease}


async def test_a_dual_key_wins_the_race_for_a_revoked_lease(
    proxy: EtcdProxy, proxied: Place
) -> None:
    lease = await acquire(proxied.store, IPS[0], DUAL_SUBNETS, DUAL)
    await proxied.client.delete(proxied.key(DUAL_KEY))
    proxy.calls.clear()

    async def overtake(method: str) -> None:
        if method == "Txn" and proxy.calls.count("Txn") == 1:
            theirs = proxied.key("10.5.9.0-24&fd00:5:0:7::-64")
            await proxied.client.put(theirs, dual_attrs_of(IPS[1]).encode())

    proxy.before = overtake
    with pytest.raises(LeaseLost, match=IPS[1]):
        await proxied.store.reacquire(lease)
    assert set(await proxied.entries()) == {"subnets/10.5.9.0-24&fd00:5:0:7::-64"}


async def test_renewals_and_deletions_of_others_are_no_race(
    proxy: EtcdProxy, proxied: Place
) -> None:
    """A cluster of thousands renews all the time."""
    theirs, gone = (proxied.key(f"10.5.{n}.0-24&fd00:5:0:{n}::-64") for n in (8, 9))
    value = dual_attrs_of(IPS[1]).encode()
    await proxied.client.put(theirs, value)
    await proxied.client.put(gone, value)

    async def renew(method: str) -> None:
        if method == "Txn":
            await proxied.client.put(theirs, value)
            await proxied.client.delete(gone)

    proxy.before = renew
    lease = await acquire(proxied.store, IPS[0], DUAL_SUBNETS, DUAL)
    assert lease.subnets == DUAL_SUBNETS
    assert proxy.calls.count("Txn") == 1


async def test_a_dual_create_whose_answer_is_lost_is_not_repeated(
    proxy: EtcdProxy, proxied: Place
) -> None:
    """Nor is it taken for another node's, which is created since the listing too."""
    proxy.after = lose("Txn")
    lease = await acquire(proxied.store, IPS[0], DUAL_SUBNETS, DUAL)
    assert lease.subnets == DUAL_SUBNETS
    assert (await proxied.stored(lease)).revision == lease.revision
    assert proxy.calls.count("Txn") == 1
    assert len(await proxied.entries()) == 1


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


async def test_a_race_that_never_ends_is_given_up(
    proxy: EtcdProxy, proxied: Place
) -> None:
    await proxied.client.put(proxied.key(KEY), attrs_of(IPS[0]).encode(), ttl=3600)

    async def overtake(method: str) -> None:
        if method == "Txn":
            await proxied.client.put(
                proxied.key(KEY), attrs_of(IPS[0]).encode(), ttl=60
            )

    proxy.before = overtake
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(StoreUnavailable, match="race"):
            await acquire(proxied.store, IPS[0])
    assert proxy.calls.count("Txn") == TRIES
