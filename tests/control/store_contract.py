"""What every subnet store promises (control/store.py), as one suite.

To hold a store to it, subclass Rig (how a test reaches behind the store's back:
tests/helpers/storerig.py), and subclass StoreContract with a fixture `rig` that yields
one, fresh for each test:

    class TestEtcdStore(StoreContract):
        @pytest.fixture
        async def rig(self, etcd: Etcd) -> AsyncIterator[Rig]:
            yield EtcdRig(etcd)

A store that nobody can write to (static) subclasses ReadContract and ReadRig instead.
The suite closes every store that it asks the rig for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from flannelette.control.errors import StoreUnavailable
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.store import Store
from tests.control.dual_contract import DualContract
from tests.control.lease_contract import LeaseContract
from tests.control.watch_contract import WatchContract
from tests.helpers.storerig import (
    CONFIG,
    DEADLINE,
    IPS,
    OpenStore,
    ReadRig,
    Rig,
    Watcher,
    acquire,
    attrs_of,
    eventually,
    network,
    watching,
)


class ReadContract:
    """The promises that hold for a store which nobody writes to, too."""

    @pytest.fixture
    def rig(self) -> ReadRig:
        raise NotImplementedError("the subclass yields the rig")

    @pytest.fixture
    async def configured(self, rig: ReadRig) -> None:
        """The store has the network configuration CONFIG."""

    @pytest.fixture
    async def open_store(self, rig: ReadRig) -> AsyncIterator[OpenStore]:
        stores: list[Store] = []

        async def open_store(public_ip: str) -> Store:
            stores.append(await rig.make_store(public_ip))
            return stores[-1]

        yield open_store
        for store in stores:
            await store.close()

    async def test_the_network_config_can_be_parsed(
        self, open_store: OpenStore, configured: None
    ) -> None:
        store = await open_store(IPS[0])
        config = NetworkConfig.parse(await store.network_config())
        assert config.network == network("10.5.0.0/16")
        assert config.backend_type == "vxlan"

    async def test_acquire_gives_a_subnet_in_range_and_the_same_again(
        self, open_store: OpenStore, configured: None
    ) -> None:
        """E14, T31: a restarted node comes back to its subnet by its public IP."""
        first = await acquire(await open_store(IPS[0]), IPS[0])
        assert NetworkConfig.parse(CONFIG).contains(first.subnet)
        assert first.attrs == attrs_of(IPS[0])
        again = await acquire(await open_store(IPS[0]), IPS[0])
        assert again.subnet == first.subnet

    async def test_nodes_get_different_subnets(
        self, open_store: OpenStore, configured: None
    ) -> None:
        leases = [await acquire(await open_store(ip), ip) for ip in IPS[:3]]
        assert len({lease.subnet for lease in leases}) == 3

    async def test_renew_keeps_subnet_and_attributes(
        self, open_store: OpenStore, configured: None
    ) -> None:
        """T32."""
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        renewed = await store.renew(lease)
        again = await store.renew(renewed)
        assert again.subnet == renewed.subnet == lease.subnet
        assert again.attrs == renewed.attrs == lease.attrs

    async def test_reacquire_of_a_lease_we_still_hold_keeps_it(
        self, open_store: OpenStore, configured: None
    ) -> None:
        """So the agent may call it without knowing what became of a write."""
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        again = await store.reacquire(lease)
        assert (again.subnet, again.attrs) == (lease.subnet, lease.attrs)
        await store.renew(again)

    async def test_a_watch_begins_with_a_snapshot_that_has_our_own_lease(
        self, open_store: OpenStore, configured: None
    ) -> None:
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        async with watching(store) as watcher:
            snapshot = await watcher.snapshot()
        (own,) = (peer for peer in snapshot.leases if peer.subnet == lease.subnet)
        assert own.attrs.public_ip == lease.attrs.public_ip
        assert own.revision == lease.revision

    async def test_a_connected_store_says_so(
        self, open_store: OpenStore, configured: None
    ) -> None:
        store = await open_store(IPS[0])
        await acquire(store, IPS[0])
        async with watching(store) as watcher:
            await watcher.snapshot()
            status = store.status()
            await eventually(lambda: store.status().age is not None)
        assert status.connected
        assert status.error is None
        assert (status.resyncs, status.skipped) == (0, 0)
        assert status.outage == 0

    async def test_close_ends_a_blocked_watch_and_leaves_nothing_behind(
        self, rig: ReadRig, configured: None
    ) -> None:
        """The iteration ends; no task and no thread of the store stays."""
        warm = await rig.make_store(IPS[0])  # a library's own threads come with it
        await acquire(warm, IPS[0])
        await warm.close()
        tasks, threads = asyncio.all_tasks(), set(threading.enumerate())

        store = await rig.make_store(IPS[0])
        await acquire(store, IPS[0])
        watcher = Watcher()
        task = asyncio.create_task(watcher.feed(store))
        await watcher.snapshot()
        async with asyncio.timeout(DEADLINE):
            await store.close()
            await task
        await eventually(lambda: asyncio.all_tasks() <= tasks)
        await eventually(lambda: set(threading.enumerate()) <= threads)

    async def test_close_is_idempotent_and_calls_after_it_fail(
        self, open_store: OpenStore, configured: None
    ) -> None:
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        await store.close()
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.renew(lease)
        assert [event async for event in store.watch()] == []


class StoreContract(LeaseContract, WatchContract, DualContract, ReadContract):
    """All promises."""

    @pytest.fixture
    def rig(self) -> Rig:
        raise NotImplementedError("the subclass yields the rig")

    @pytest.fixture
    async def configured(self, rig: Rig) -> None:
        await rig.write_config(CONFIG)
