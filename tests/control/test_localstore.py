"""The local store: the contract, and what only a file can do to us."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import stat
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from flannelette.control import localdb, localstore
from flannelette.control.errors import (
    LeaseLost,
    NetworkConfigError,
    StoreError,
    StoreUnavailable,
)
from flannelette.control.lease import Removed, Snapshot
from flannelette.control.localdb import APPLICATION_ID, HISTORY, LocalDB
from flannelette.control.localstore import LocalStore
from tests.control.store_contract import (
    DEADLINE,
    IPS,
    Entry,
    Rig,
    StoreContract,
    acquire,
    attrs_of,
    eventually,
    network,
    watching,
)


class LocalRig(Rig):
    """A file, written behind the stores' back as the sqlite3 tool would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def make_store(self, public_ip: str) -> LocalStore:
        return LocalStore(self.path)

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.path, timeout=DEADLINE)) as db, db:
            return db.execute(statement, values).fetchall()

    async def write_config(self, text: bytes) -> None:
        store = LocalStore(self.path)
        await store.set_network_config(text)
        await store.close()

    async def put(self, key: bytes, value: bytes, ttl: int | None = None) -> None:
        expires = None if ttl is None else time.time() + ttl
        self.execute(
            "INSERT INTO lease (key, value, expires) VALUES (CAST(? AS TEXT), ?, ?)"
            " ON CONFLICT DO UPDATE SET value=excluded.value, expires=excluded.expires",
            key,
            value,
            expires,
        )

    async def get(self, key: bytes) -> Entry | None:
        rows = self.execute(
            "SELECT value, expires IS NULL FROM lease WHERE key = CAST(? AS TEXT)", key
        )
        if not rows:
            return None
        value, permanent = rows[0]
        assert isinstance(value, bytes)
        return Entry(value, bool(permanent))

    async def delete(self, key: bytes) -> None:
        self.execute("DELETE FROM lease WHERE key = CAST(? AS TEXT)", key)

    async def expire(self, key: bytes) -> None:
        self.execute("UPDATE lease SET expires = 1 WHERE key = CAST(? AS TEXT)", key)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests wait for a watch's next look; let it come soon."""
    monkeypatch.setattr(localstore, "POLL", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def rig(path: Path) -> LocalRig:
    """The file with its tables, as some store left it."""
    store = LocalStore(path)
    with pytest.raises(NetworkConfigError):
        await store.network_config()
    await store.close()
    return LocalRig(path)


class TestContract(StoreContract):
    @pytest.fixture
    def rig(self, rig: LocalRig) -> LocalRig:
        return rig


@pytest.fixture
async def store(rig: LocalRig) -> AsyncIterator[LocalStore]:
    store = LocalStore(rig.path, busy_timeout=0.1)
    yield store
    await store.close()


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


# Other processes.

ROOT = Path(__file__).parents[2]

ACQUIRE = """
import asyncio, sys
from flannelette.control.localstore import LocalStore
from tests.control.store_contract import acquire

async def main(path, ip):
    store = LocalStore(path)
    sys.stdin.read()
    print((await acquire(store, ip)).subnet)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


def script(text: str, *args: object, prefix: tuple[str, ...] = ()) -> list[str]:
    return [*prefix, sys.executable, "-c", text, *map(str, args)]


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


# The file.


async def test_the_file_is_its_owners_alone(rig: LocalRig, store: LocalStore) -> None:
    await acquire(store, IPS[0])
    for file in rig.path.parent.iterdir():  # with SQLite's -wal and -shm
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")


def other_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"garbage" * 1000), "not a database"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: path.parent.rmdir(), "no such directory"),
        (foreign_database, "another program"),
        (other_version, "another version"),
    ],
)
async def test_a_file_that_cannot_be_ours(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "dir" / "store.db"
    path.parent.mkdir()
    spoil(path)
    store = LocalStore(path)
    with pytest.raises(StoreError, match=message) as caught:
        await store.network_config()
    assert type(caught.value) is StoreError
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert message in (store.status().error or "")
    await store.close()


async def test_a_deleted_file_is_made_again(
    rig: LocalRig, store: LocalStore, caplog: pytest.LogCaptureFixture
) -> None:
    """What we write must be where the other daemons look."""
    lease = await acquire(store, IPS[0])
    async with watching(store) as watcher:
        await watcher.snapshot()
        for file in rig.path.parent.iterdir():
            file.unlink()
        assert await watcher.snapshot() == Snapshot(())
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        again = await store.reacquire(lease)
        assert (await watcher.added()).subnet == lease.subnet
    assert await rig.get(again.key.encode()) is not None
    assert caplog.text.count("was replaced") == 1


async def test_a_watch_survives_a_broken_file_and_says_so_once(
    rig: LocalRig,
    store: LocalStore,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0
    connection = LocalDB.connection

    def counted(self: LocalDB) -> sqlite3.Connection:
        nonlocal looks
        looks += 1
        return connection(self)

    monkeypatch.setattr(LocalDB, "connection", counted)
    caplog.set_level(logging.INFO)
    lease = await acquire(store, IPS[0])
    async with watching(store) as watcher:
        await watcher.snapshot()
        whole = rig.path.with_suffix(".whole")
        rig.execute("VACUUM INTO ?", str(whole))
        broken = rig.path.with_suffix(".broken")
        broken.write_bytes(b"garbage" * 1000)
        broken.rename(rig.path)
        await eventually(lambda: not store.status().connected)
        assert "not a database" in (store.status().error or "")
        looks = 0
        await eventually(lambda: looks > 5)
        with pytest.raises(StoreUnavailable):
            await store.renew(lease)
        whole.rename(rig.path)
        assert [it.subnet for it in (await watcher.snapshot()).leases] == [lease.subnet]
    assert store.status().connected
    assert store.status().error is None
    assert caplog.text.count("waits for its store") == 1
    assert caplog.text.count("goes on") == 1


IN_A_SMALL_TMPFS = (
    *("unshare", "--mount", "sh", "-ec"),
    'mount -t tmpfs -o size=256k tmpfs "$0"; exec "$@"',
)

FULL = """
import asyncio, subprocess, sys
from contextlib import suppress
from flannelette.control.errors import StoreUnavailable
from flannelette.control.localstore import LocalStore
from tests.control.store_contract import CONFIG, IPS, acquire

async def fails(call):
    try:
        await call
    except StoreUnavailable as error:
        print(error)
    else:
        sys.exit("no error")

async def main(folder):
    store = LocalStore(folder + "/store.db", busy_timeout=0.1)
    lease = await acquire(store, IPS[0])
    await store.set_network_config(CONFIG)
    await fails(store.set_network_config(bytes(1 << 20)))
    assert await store.network_config() == CONFIG
    lease = await store.renew(lease)
    await store.close()

    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    store = LocalStore(folder + "/store.db", busy_timeout=0.1)
    await fails(store.renew(lease))
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    await store.renew(lease)
    await store.close()

    with open(folder + "/filler", "wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))
    store = LocalStore(folder + "/other.db", busy_timeout=0.1)
    await fails(acquire(store, IPS[0]))
    await store.close()

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount a small disk takes root")
async def test_a_full_and_a_read_only_disk_are_outages(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *IN_A_SMALL_TMPFS,
        tmp_path,
        *script(FULL, tmp_path),
        stdout=PIPE,
        stderr=PIPE,
        cwd=ROOT,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    full, readonly, full_at_once = out.decode().splitlines()
    assert full == f"local store {tmp_path}/store.db: database or disk is full"
    assert readonly.startswith(f"local store {tmp_path}/store.db: ")
    assert full_at_once == f"local store {tmp_path}/other.db: database or disk is full"


async def test_what_fails_leaves_no_trace(rig: LocalRig, store: LocalStore) -> None:
    """To take a new subnet and to give up the old one is one step, or none."""
    await rig.put(b"10.3.9.0-24", attrs_of(IPS[0]).encode(), ttl=3600)
    rig.execute(
        "CREATE TRIGGER veto BEFORE INSERT ON lease BEGIN SELECT RAISE(ABORT, 'veto');"
        " END"
    )
    with pytest.raises(StoreError, match="veto"):
        await acquire(store, IPS[0])
    assert await rig.get(b"10.3.9.0-24") is not None
    rig.execute("DROP TRIGGER veto")
    await acquire(store, IPS[0])
    assert await rig.get(b"10.3.9.0-24") is None


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
