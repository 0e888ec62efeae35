"""The local store beside others that write: it waits for them, but not for ever."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from asyncio.subprocess import PIPE
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from flannelette.control import localdb, localstore
from flannelette.control.errors import StoreUnavailable
from flannelette.control.localstore import LocalStore
from tests.helpers.localrig import LocalRig, script
from tests.helpers.ns import ROOT
from tests.helpers.storerig import (
    DEADLINE,
    IPS,
    acquire,
    eventually,
    network,
    watching,
)

# Other processes.

ACQUIRE = """
import asyncio, sys
from flannelette.control.localstore import LocalStore
from tests.helpers.storerig import acquire

async def main(path, ip):
    store = LocalStore(path)
    sys.stdin.read()
    print((await acquire(store, ip)).subnet)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def acquire_in_processes(path: Path, ips: Sequence[str]) -> set[IPv4Network]:
    processes = [
        await asyncio.create_subprocess_exec(
            *script(ACQUIRE, path, ip), stdin=PIPE, stdout=PIPE, cwd=ROOT
        )
        for ip in ips
    ]
    results = await asyncio.gather(*(it.communicate(b"") for it in processes))
    assert [process.returncode for process in processes] == [0] * len(ips)
    return {network(out.decode().strip()) for out, _ in results}


async def test_processes_that_make_the_file_at_once_all_differ(path: Path) -> None:
    """Nobody has made the file yet: each may be the one that does."""
    subnets = await acquire_in_processes(path, IPS[:4])
    assert len(subnets) == 4
    store = LocalStore(path)
    async with watching(store) as watcher:
        await watcher.until(subnets)
        subnets |= await acquire_in_processes(path, IPS[4:5])
        await watcher.until(subnets)
        assert len(subnets) == 5
    assert store.status().resyncs == 0
    await store.close()


DIE = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
db.execute("DELETE FROM lease")
print("now", flush=True)
time.sleep(60)
"""


async def test_a_process_killed_in_a_transaction_harms_nobody(
    store: LocalStore, path: Path
) -> None:
    lease = await acquire(store, IPS[0])
    process = await asyncio.create_subprocess_exec(*script(DIE, path), stdout=PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"now\n"
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.renew(lease)
        assert "locked" in (store.status().error or "")
        assert not store.status().connected
        assert store.status().outage > 0
    finally:
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    await store.renew(lease)
    assert store.status().connected
    assert store.status().outage == 0


@pytest.fixture
def writer(
    rig: LocalRig, monkeypatch: pytest.MonkeyPatch
) -> Iterator[sqlite3.Connection]:
    """Begins to write at the worst moment: just before the file is put in WAL mode.

    SQLite waits for readers then, but gives up at once for a writer."""
    real = localdb.writing

    @contextmanager
    def writing(db: sqlite3.Connection) -> Iterator[None]:
        with real(db):
            yield
        other.execute("BEGIN IMMEDIATE")

    with closing(
        sqlite3.connect(rig.path, isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        monkeypatch.setattr(localdb, "writing", writing)
        yield other


async def test_opening_waits_for_one_who_writes(
    rig: LocalRig, writer: sqlite3.Connection
) -> None:
    store = LocalStore(rig.path, busy_timeout=DEADLINE)
    call = asyncio.create_task(acquire(store, IPS[0]))
    await eventually(lambda: writer.in_transaction)
    await asyncio.wait([call], timeout=0.1)
    writer.execute("COMMIT")
    await call
    await store.close()


async def test_opening_does_not_wait_for_ever(
    rig: LocalRig, writer: sqlite3.Connection
) -> None:
    store = LocalStore(rig.path, busy_timeout=0.1)
    with pytest.raises(StoreUnavailable, match="locked"):
        await acquire(store, IPS[0])
    await store.close()


# Ends.


async def test_close_does_not_wait_for_the_next_look(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localstore, "POLL", 1e6)
    events = store.watch()
    await anext(events)
    async with asyncio.timeout(DEADLINE):
        ended = asyncio.create_task(anext(events, None))
        await asyncio.sleep(0)
        await store.close()
        assert await ended is None


async def test_a_cancelled_call_leaves_the_store_usable(store: LocalStore) -> None:
    lease = await acquire(store, IPS[0])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await store.renew(lease)
    await store.reacquire(lease)


async def test_close_waits_for_a_lock_no_longer_than_the_busy_timeout(
    rig: LocalRig, store: LocalStore
) -> None:
    lease = await acquire(store, IPS[0])
    with closing(sqlite3.connect(rig.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        calls = [asyncio.create_task(store.renew(lease)) for _ in range(3)]
        await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE):
            await store.close()
            results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 3
