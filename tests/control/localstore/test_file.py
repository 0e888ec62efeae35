"""What only a file can do to the local store: another's, broken, gone, full disks."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import stat
from asyncio.subprocess import PIPE
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flannelette.control.errors import LeaseLost, StoreError, StoreUnavailable
from flannelette.control.lease import Snapshot
from flannelette.control.localdb import APPLICATION_ID, LocalDB
from flannelette.control.localstore import LocalStore
from tests.helpers.localrig import LocalRig, script
from tests.helpers.ns import ROOT
from tests.helpers.storerig import (
    IPS,
    acquire,
    attrs_of,
    eventually,
    watching,
)


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
        # The database last: whoever misses it makes it anew, with its other files.
        for file in sorted(rig.path.parent.iterdir(), reverse=True):
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
from tests.helpers.storerig import CONFIG, IPS, acquire

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
