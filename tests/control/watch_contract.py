"""What every subnet store promises of its watch; part of store_contract.py.

Nothing is missed, and what is no lease is skipped.
"""

from __future__ import annotations

import asyncio
import random
from ipaddress import IPv4Network

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from flannelette.control.lease import Removed, Snapshot
from flannelette.control.store import Store
from tests.helpers.storerig import (
    CONFIG,
    IPS,
    OpenStore,
    Rig,
    acquire,
    attrs_of,
    is_lease,
    network,
    watching,
)


class WatchContract:
    """The promises of the watch, with foreign entries in its way."""

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
