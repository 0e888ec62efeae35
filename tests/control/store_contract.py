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
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from flannelette.control.errors import (
    LeaseLost,
    NetworkConfigError,
    NoFreeSubnet,
    StoreUnavailable,
)
from flannelette.control.lease import (
    LeaseAttrs,
    Removed,
    Snapshot,
    Subnets,
)
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.store import Store
from tests.control.dual_contract import DualContract
from tests.helpers.storerig import (
    CONFIG,
    DEADLINE,
    IPS,
    Entry,
    ReadRig,
    Rig,
    Watcher,
    acquire,
    attrs_of,
    eventually,
    is_lease,
    network,
    watching,
)

__all__ = [
    "CONFIG",
    "DEADLINE",
    "IPS",
    "Entry",
    "ReadContract",
    "ReadRig",
    "Rig",
    "StoreContract",
    "acquire",
    "attrs_of",
    "eventually",
    "network",
    "watching",
]

OpenStore = Callable[[str], Awaitable[Store]]


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


class StoreContract(DualContract, ReadContract):
    """All promises."""

    @pytest.fixture
    def rig(self) -> Rig:
        raise NotImplementedError("the subclass yields the rig")

    @pytest.fixture
    async def configured(self, rig: Rig) -> None:
        await rig.write_config(CONFIG)

    # The network configuration.

    async def test_no_config_is_an_error(self, open_store: OpenStore) -> None:
        """T33."""
        store = await open_store(IPS[0])
        with pytest.raises(NetworkConfigError):
            await store.network_config()

    @pytest.mark.parametrize("text", [CONFIG, b"{ not JSON", b'{"Network": "\xff"}'])
    async def test_config_is_read_back_verbatim(
        self, rig: Rig, open_store: OpenStore, text: bytes
    ) -> None:
        """T33. What it means is the caller's to judge."""
        await rig.write_config(text)
        assert await (await open_store(IPS[0])).network_config() == text

    # Acquire.

    async def test_an_acquired_lease_is_written_as_flannel_writes_it(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """E3, L1 to L3, T33."""
        store = await open_store(IPS[0])
        attrs = LeaseAttrs(IPv4Address("1.2.3.4"))
        config = NetworkConfig.parse(CONFIG)
        lease = await store.acquire(attrs, config, Subnets(network("10.5.7.0/24")))
        assert (lease.key, lease.permanent) == ("10.5.7.0-24", False)
        assert await rig.get(b"10.5.7.0-24") == Entry(
            b'{"PublicIP":"1.2.3.4","PublicIPv6":null}', permanent=False
        )

    @pytest.mark.parametrize(
        ("previous", "reused"),
        [
            pytest.param("10.5.6.0/24", True, id="free"),
            pytest.param("10.5.9.0/24", False, id="held by another"),
            pytest.param("10.4.1.0/24", False, id="outside the network"),
            pytest.param("10.5.0.0/24", False, id="below SubnetMin"),
            pytest.param("10.5.6.0/25", False, id="of another length"),
        ],
    )
    async def test_previous_subnet(
        self,
        rig: Rig,
        open_store: OpenStore,
        configured: None,
        previous: str,
        reused: bool,
    ) -> None:
        """E15, T31."""
        await rig.put(b"10.5.9.0-24", attrs_of(IPS[1]).encode())
        lease = await acquire(await open_store(IPS[0]), IPS[0], previous)
        assert (lease.subnet == network(previous)) is reused
        assert lease.subnet != network("10.5.9.0/24")
        assert NetworkConfig.parse(CONFIG).contains(lease.subnet)

    async def test_our_lease_is_found_again_with_new_attributes(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """E14: reuse writes what we are now, and our own lease beats `previous`."""
        old = replace(attrs_of(IPS[0]), backend_data=None)
        await rig.put(b"10.5.9.0-24", old.encode(), ttl=3600)
        lease = await acquire(await open_store(IPS[0]), IPS[0], "10.5.6.0/24")
        assert lease.subnet == network("10.5.9.0/24")
        assert await rig.get(b"10.5.9.0-24") == Entry(
            attrs_of(IPS[0]).encode(), permanent=False
        )

    async def test_a_lease_of_another_network_is_replaced(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        """E14, T31: the config changed to another Network."""
        await rig.put(b"10.3.9.0-24", attrs_of(IPS[0]).encode(), ttl=3600)
        await rig.write_config(CONFIG)
        lease = await acquire(await open_store(IPS[0]), IPS[0])
        assert NetworkConfig.parse(CONFIG).contains(lease.subnet)
        assert await rig.get(b"10.3.9.0-24") is None

    async def test_a_dual_stack_lease_is_replaced_in_an_ipv4_network(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """H2, E14: to write such a key again would crash real peers."""
        key = b"10.5.9.0-24&fd00:1::-64"
        await rig.put(key, attrs_of(IPS[0]).encode(), ttl=3600)
        lease = await acquire(await open_store(IPS[0]), IPS[0])
        assert lease.subnet6 is None
        assert await rig.get(key) is None

    async def test_a_reservation_is_used_and_stays_one(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """E21: flanneld turns it into a lease of 24 hours; we keep it."""
        await rig.put(b"10.5.9.0-24", attrs_of(IPS[0]).encode())
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        assert lease.subnet == network("10.5.9.0/24")
        assert (lease.permanent, lease.expires) == (True, None)
        for held in (await store.renew(lease), await store.reacquire(lease)):
            assert (held.permanent, held.expires) == (True, None)
        assert await rig.get(b"10.5.9.0-24") == Entry(
            attrs_of(IPS[0]).encode(), permanent=True
        )

    async def test_a_reservation_that_no_longer_fits_is_left_alone(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        await rig.put(b"10.3.9.0-24", attrs_of(IPS[0]).encode())
        lease = await acquire(await open_store(IPS[0]), IPS[0])
        assert NetworkConfig.parse(CONFIG).contains(lease.subnet)
        assert await rig.get(b"10.3.9.0-24") is not None

    async def test_an_exhausted_network(self, rig: Rig, open_store: OpenStore) -> None:
        """E16. A /28 has three subnets of /30 beside the skipped first one."""
        small = b'{"Network": "10.5.0.0/28"}'
        await rig.write_config(small)
        leases = [
            await acquire(await open_store(ip), ip, config=small) for ip in IPS[:3]
        ]
        assert {str(lease.subnet) for lease in leases} == {
            "10.5.0.4/30",
            "10.5.0.8/30",
            "10.5.0.12/30",
        }
        with pytest.raises(NoFreeSubnet):
            await acquire(await open_store(IPS[3]), IPS[3], config=small)

    async def test_an_entry_that_is_no_lease_still_occupies_its_subnet(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        """H7: its key is there, so it can be somebody's. flanneld forgets it (E13)."""
        small = b'{"Network": "10.5.0.0/28"}'
        await rig.write_config(small)
        await rig.put(b"10.5.0.4-30", b"not a lease")
        await rig.put(b"10.5.0.8-30", b"{}")
        lease = await acquire(
            await open_store(IPS[0]), IPS[0], "10.5.0.4/30", config=small
        )
        assert lease.subnet == network("10.5.0.12/30")
        with pytest.raises(NoFreeSubnet):
            await acquire(await open_store(IPS[1]), IPS[1], config=small)
        assert await rig.get(b"10.5.0.4-30") == Entry(b"not a lease", permanent=True)

    async def test_many_nodes_at_once_all_differ(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        """E17, E18: eight nodes want the only eight subnets; lost races start over.

        A node loses a race only because another won one: seven times at most."""
        exact = (
            b'{"Network": "10.5.0.0/16", "SubnetLen": 24, '
            b'"SubnetMin": "10.5.8.0", "SubnetMax": "10.5.15.0"}'
        )
        await rig.write_config(exact)
        stores = [await open_store(ip) for ip in IPS]
        leases = await asyncio.gather(
            *(acquire(s, ip, config=exact) for s, ip in zip(stores, IPS, strict=True))
        )
        assert {lease.subnet for lease in leases} == {
            network(f"10.5.{n}.0/24") for n in range(8, 16)
        }

    # Renew and reacquire.

    async def test_renew_extends_and_keeps_the_value(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """E20, T32."""
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        before = await rig.get(lease.key.encode())
        renewed = await store.renew(lease)
        assert lease.expires is not None
        assert renewed.expires is not None
        assert renewed.expires >= lease.expires
        assert renewed.revision != lease.revision
        assert await rig.get(lease.key.encode()) == before

    async def test_renew_notices_another_writer(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """flanneld's renewal overwrites (H7), ours compares."""
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        theirs = attrs_of(IPS[1]).encode()
        await rig.put(lease.key.encode(), theirs, ttl=3600)
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        with pytest.raises(LeaseLost):
            await store.reacquire(lease)
        assert await rig.get(lease.key.encode()) == Entry(theirs, permanent=False)

    @pytest.mark.parametrize("how", ["deleted", "expired"])
    async def test_a_revoked_lease_is_noticed_and_taken_again(
        self, rig: Rig, open_store: OpenStore, configured: None, how: str
    ) -> None:
        """Where flanneld shuts down (E33)."""
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        end = rig.delete if how == "deleted" else rig.expire
        await end(lease.key.encode())
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        assert await rig.get(lease.key.encode()) is None
        again = await store.reacquire(lease)
        assert again.subnet == lease.subnet
        assert await rig.get(lease.key.encode()) == Entry(
            lease.attrs.encode(), permanent=False
        )
        await store.renew(again)

    async def test_an_operator_turns_our_lease_into_a_reservation(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        await rig.put(lease.key.encode(), lease.attrs.encode())
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        assert (await store.reacquire(lease)).permanent
        assert await rig.get(lease.key.encode()) == Entry(
            lease.attrs.encode(), permanent=True
        )

    async def test_reacquire_loses_to_the_node_that_has_it_by_now(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        await rig.delete(lease.key.encode())
        other = await open_store(IPS[1])
        theirs = await acquire(other, IPS[1], previous=str(lease.subnet))
        assert theirs.subnet == lease.subnet
        with pytest.raises(LeaseLost):
            await store.reacquire(lease)
        await other.renew(theirs)

    async def test_reacquire_loses_to_a_lease_inside_ours(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """H7: its key is another one."""
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0], previous="10.5.9.0/24")
        await rig.delete(b"10.5.9.0-24")
        await rig.put(b"10.5.9.128-25", attrs_of(IPS[1]).encode())
        with pytest.raises(LeaseLost, match=IPS[1]):
            await store.reacquire(lease)
        await rig.put(b"10.5.9.128-25", b"garbage")
        with pytest.raises(LeaseLost, match="no lease"):
            await store.reacquire(lease)
        assert await rig.get(b"10.5.9.0-24") is None

    # Watch.

    async def test_an_empty_store_is_an_empty_snapshot(
        self, open_store: OpenStore, configured: None
    ) -> None:
        async with watching(await open_store(IPS[0])) as watcher:
            assert await watcher.snapshot() == Snapshot(())

    async def test_every_change_is_seen_in_order(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """E25, E26, T32, T33."""
        store = await open_store(IPS[0])
        own = await acquire(store, IPS[0])
        subnets = [network(f"10.5.{n}.0/24") for n in range(200, 205)]
        async with watching(store) as watcher:
            await watcher.snapshot()
            for subnet in subnets:
                key = f"{subnet.network_address}-24".encode()
                await rig.put(key, attrs_of(IPS[1]).encode())
                await rig.put(key, attrs_of(IPS[2]).encode(), ttl=3600)
                await rig.delete(key)
            for subnet in subnets:
                first, second = await watcher.added(), await watcher.added()
                assert first.subnet == second.subnet == subnet
                assert (first.attrs, first.permanent) == (attrs_of(IPS[1]), True)
                assert (second.attrs, second.permanent) == (attrs_of(IPS[2]), False)
                assert first.revision != second.revision
                assert await watcher.next() == Removed(subnet)
            renewed = await store.renew(own)
            seen = await watcher.added()
            assert (seen.subnet, seen.revision) == (own.subnet, renewed.revision)

    async def test_an_expired_lease_is_removed(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """T32."""
        store, peer = await open_store(IPS[0]), await open_store(IPS[1])
        lease = await acquire(peer, IPS[1])
        async with watching(store) as watcher:
            await watcher.until([lease.subnet])
            await rig.expire(lease.key.encode())
            await watcher.until([])
        assert store.status().resyncs == 0

    async def test_nothing_is_lost_between_acquire_and_watch(
        self, open_store: OpenStore, configured: None
    ) -> None:
        """Nodes that start in the same instant all find each other."""
        stores = [await open_store(ip) for ip in IPS]
        found: list[IPv4Network] = []

        async def start(store: Store, public_ip: str) -> None:
            found.append((await acquire(store, public_ip)).subnet)
            async with watching(store) as watcher:
                await watcher.next()
                while len(watcher.peers) < len(IPS):
                    await watcher.next()

        await asyncio.gather(
            *(start(store, ip) for store, ip in zip(stores, IPS, strict=True))
        )
        assert len(set(found)) == len(IPS)

    async def test_two_watches_of_one_store_each_see_all(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        store = await open_store(IPS[0])
        async with watching(store) as one, watching(store) as two:
            await one.snapshot()
            await two.snapshot()
            await rig.put(b"10.5.9.0-24", attrs_of(IPS[1]).encode())
            assert (await one.added()) == (await two.added())

    async def test_random_histories_fold_to_what_is_there(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """Writes and deletions while watches begin: every fold ends alike."""
        rng = random.Random(5)
        there: set[IPv4Network] = set()
        async with watching(await open_store(IPS[0])) as early:
            for step in range(60):
                subnet = network(f"10.5.{rng.randrange(1, 6)}.0/24")
                key = f"{subnet.network_address}-24".encode()
                if rng.random() < 0.6:
                    await rig.put(key, attrs_of(rng.choice(IPS)).encode())
                    there.add(subnet)
                else:
                    await rig.delete(key)
                    there.discard(subnet)
                if step == 30:
                    late_store = await open_store(IPS[1])
            async with watching(late_store) as late:
                marker = network("10.5.250.0/24")
                await rig.put(b"10.5.250.0-24", attrs_of(IPS[7]).encode())
                for watcher in (early, late):
                    while marker not in watcher.peers:
                        await watcher.next()
                    assert watcher.peers.keys() == there | {marker}
                assert early.peers == late.peers

    # Foreign entries.

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            (b"10.5.9.0-24", b""),
            (b"10.5.9.0-24", b"null"),
            (b"10.5.9.0-24", b"{}"),
            (b"10.5.9.0-24", b'{"PublicIP":null}'),
            (b"10.5.9.0-24", b'{"PublicIP":"\xff\xfe"}'),
            (b"10.5.9.0-24", b"[" * 100_000),
            (b"10.5.9.0-32", attrs_of(IPS[1]).encode()),
            (b"10.5.9.0", attrs_of(IPS[1]).encode()),
            (b"stats/10.5.9.0-24", attrs_of(IPS[1]).encode()),
            (b"\xff\x00\n", b"\x00"),
        ],
    )
    async def test_a_foreign_entry_is_skipped_and_counted(
        self,
        rig: Rig,
        open_store: OpenStore,
        configured: None,
        key: bytes,
        value: bytes,
    ) -> None:
        """H1: in a snapshot, in an event, and when it goes; it empties nothing."""
        await rig.put(key, value)
        store, peer = await open_store(IPS[0]), await open_store(IPS[1])
        lease = await acquire(store, IPS[0])
        async with watching(store) as watcher, watching(peer) as event_watcher:
            assert {it.subnet for it in (await watcher.snapshot()).leases} == {
                lease.subnet
            }
            await event_watcher.snapshot()
            await rig.put(key, value + b" ")
            other = await acquire(peer, IPS[1])
            both = {lease.subnet, other.subnet}
            for reader in (watcher, event_watcher):
                assert (await reader.added()).subnet == other.subnet
                assert reader.peers.keys() == both
            await rig.delete(key)
            await rig.put(b"10.5.250.0-24", attrs_of(IPS[2]).encode())
            for reader in (watcher, event_watcher):
                await reader.until(both | {network("10.5.250.0/24")})
        assert store.status().skipped > 0
        assert peer.status().skipped > 0
        assert store.status().resyncs == 0

    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
            HealthCheck.too_slow,
        ],
    )
    @given(
        entries=st.lists(
            st.one_of(
                st.tuples(st.binary(min_size=1, max_size=60), st.binary(max_size=60)),
                st.tuples(st.just(b"10.5.9.0-24"), st.binary(max_size=60)),
                st.tuples(
                    st.text("0123456789.-&:abcdef", min_size=1).map(str.encode),
                    st.just(attrs_of(IPS[1]).encode()),
                ),
            ).filter(lambda entry: not is_lease(*entry)),
            min_size=1,
            max_size=8,
            unique_by=lambda entry: entry[0],
        )
    )
    async def test_any_foreign_bytes_are_survived(
        self, rig: Rig, open_store: OpenStore, entries: list[tuple[bytes, bytes]]
    ) -> None:
        await rig.write_config(CONFIG)
        store = await open_store(IPS[0])
        try:
            for key, value in entries:
                await rig.put(key, value)
            own = (await acquire(store, IPS[0])).subnet
            async with watching(store) as watcher:
                snapshot = await watcher.snapshot()
                assert [lease.subnet for lease in snapshot.leases] == [own]
                for key, value in entries:
                    await rig.put(key, value + b"\n")
                    await rig.delete(key)
                await rig.put(b"10.5.250.0-24", attrs_of(IPS[2]).encode())
                await watcher.until([own, network("10.5.250.0/24")])
            assert store.status().skipped >= 2 * len(entries)
        finally:
            for key in (*(key for key, _ in entries), b"10.5.250.0-24"):
                await rig.delete(key)
            await store.close()
