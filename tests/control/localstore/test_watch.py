"""What the local store's watch reads: the time, and the log of changes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flannelette.control.errors import LeaseLost
from flannelette.control.lease import Removed, Snapshot
from flannelette.control.localdb import HISTORY
from flannelette.control.localstore import LocalStore
from tests.helpers.localrig import LocalRig
from tests.helpers.storerig import (
    IPS,
    acquire,
    attrs_of,
    network,
    watching,
)

# Time.


async def test_a_lease_lives_for_a_day(path: Path) -> None:
    """E20."""
    store = LocalStore(path, clock=lambda: 1000.0)
    lease = await acquire(store, IPS[0])
    assert lease.expires == 1000 + 24 * 3600
    await store.close()


async def test_a_lease_runs_out_by_the_clock_alone(path: Path) -> None:
    """Nobody writes: the watch itself looks at the time."""
    now = 0.0
    store = LocalStore(path, ttl=10, clock=lambda: now)
    peer = LocalStore(path, ttl=10, clock=lambda: now)
    lease, other = await acquire(store, IPS[0]), await acquire(peer, IPS[1])
    async with watching(store) as watcher:
        await watcher.until([lease.subnet, other.subnet])
        now = 9.0
        lease = await store.renew(lease)
        assert lease.expires == 19
        assert (await watcher.added()).expires == 19
        now = 10.0
        assert await watcher.next() == Removed(other.subnet)
    with pytest.raises(LeaseLost):
        await peer.renew(other)
    assert (await peer.reacquire(other)).expires == 20
    await store.close()
    await peer.close()


# The change log.


async def test_a_trimmed_history_gives_a_snapshot(
    rig: LocalRig, store: LocalStore
) -> None:
    """In one transaction, so that no look of the watch comes in between."""
    lease = await acquire(store, IPS[0])
    async with watching(store) as watcher:
        await watcher.snapshot()
        with closing(sqlite3.connect(rig.path)) as db, db:
            for n in range(HISTORY + 1):
                db.execute("UPDATE lease SET value = ?", (b"%d" % n,))
            db.execute("UPDATE lease SET value = ?", (attrs_of(IPS[1]).encode(),))
            ((rows,),) = db.execute("SELECT count(*) FROM change").fetchall()
            assert rows == HISTORY
        snapshot = await watcher.snapshot()
        assert [it.attrs for it in snapshot.leases] == [attrs_of(IPS[1])]
        assert store.status().resyncs == 1
        rig.execute("DELETE FROM lease")
        assert await watcher.next() == Removed(lease.subnet)


async def test_a_log_emptied_by_hand_gives_a_snapshot(
    rig: LocalRig, store: LocalStore
) -> None:
    await rig.put(b"10.5.9.0-24", attrs_of(IPS[1]).encode())
    async with watching(store) as watcher:
        await watcher.snapshot()
        rig.execute("DELETE FROM change")
        assert len((await watcher.snapshot()).leases) == 1


async def test_whoever_renames_a_key_moves_the_lease(
    rig: LocalRig, store: LocalStore
) -> None:
    lease = await acquire(store, IPS[0])
    async with watching(store) as watcher:
        await watcher.snapshot()
        rig.execute("UPDATE lease SET key = '10.5.250.0-24'")
        assert await watcher.next() == Removed(lease.subnet)
        assert (await watcher.added()).subnet == network("10.5.250.0/24")


@pytest.mark.parametrize("value", ["text", 7, 1.5])
async def test_values_of_any_type_are_skipped(
    rig: LocalRig, store: LocalStore, value: object
) -> None:
    rig.execute("INSERT INTO lease (key, value) VALUES (?, ?)", "10.5.9.0-24", value)
    async with watching(store) as watcher:
        assert await watcher.snapshot() == Snapshot(())
    assert store.status().skipped == 1


async def test_a_value_typed_by_hand_is_a_lease(
    rig: LocalRig, store: LocalStore
) -> None:
    """The sqlite3 tool writes text, not a blob."""
    value = attrs_of(IPS[1]).encode().decode()
    rig.execute("INSERT INTO lease (key, value) VALUES (?, ?)", "10.5.9.0-24", value)
    async with watching(store) as watcher:
        (lease,) = (await watcher.snapshot()).leases
    assert lease.attrs == attrs_of(IPS[1])
