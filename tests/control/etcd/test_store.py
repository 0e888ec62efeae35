"""EtcdStore's writes on a real etcd: what the contract cannot see."""

from __future__ import annotations

import time
from ipaddress import IPv4Address

from flannelette.control.lease import LeaseAttrs, Subnets
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.store import LEASE_TTL
from tests.helpers.etcd import require_etcd, settled as settled
from tests.helpers.etcdplace import Place
from tests.helpers.etcdproxy import EtcdProxy
from tests.helpers.storerig import (
    CONFIG,
    IPS,
    acquire,
    attrs_of,
    network,
    watching,
)

require_etcd()


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
    proxy: EtcdProxy, proxied: Place
) -> None:
    """E14. No instant without a lease, and none with two."""
    old = proxied.key("10.3.9.0-24")
    await proxied.client.put(old, attrs_of(IPS[0]).encode(), ttl=3600)
    lease = await acquire(proxied.store, IPS[0])
    assert set(await proxied.entries()) == {f"subnets/{lease.key}"}
    assert proxy.calls.count("Txn") == 1


async def test_a_stale_lease_that_changes_meanwhile_is_looked_at_again(
    proxy: EtcdProxy, proxied: Place
) -> None:
    key = proxied.key("10.3.9.0-24")
    await proxied.client.put(key, attrs_of(IPS[0]).encode(), ttl=3600)

    async def reserve(method: str) -> None:
        if method == "Txn" and proxy.calls.count("Txn") == 1:
            await proxied.client.put(key, attrs_of(IPS[0]).encode())

    proxy.before = reserve
    lease = await acquire(proxied.store, IPS[0])
    # By now it is an operator's reservation, and those are not deleted.
    assert set(await proxied.entries()) == {
        f"subnets/{lease.key}",
        "subnets/10.3.9.0-24",
    }
