"""The local store: `--store=local:PATH`, one SQLite file for the daemons of a machine.

Theory. Several processes write one file, so each decision (which subnet is free, is
this lease still ours) is one transaction: BEGIN IMMEDIATE admits one writer at a time,
and what it read stays true until it commits. There are no races to lose.

Triggers write each change of a lease, whoever makes it, into the table `change`, whose
row number is the store's revision. A watch therefore reads a snapshot at revision R,
then the changes after R, and misses nothing; rows beyond the last HISTORY are trimmed,
and a watch that finds its place gone starts over with a snapshot. SQLite tells no other
process of a commit, so a watch looks four times a second: two small reads.

A lease whose time is up is deleted by whichever store looks next. The last part of
flannel's key is the key, flannel's JSON the value, so what an operator or another
program puts there is read with the same suspicion as an etcd's content.

SQLite blocks, so all of it happens in one worker thread per store.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from flannelette.control.allocate import Create, Reuse, choose, conflict
from flannelette.control.errors import (
    LeaseLost,
    NetworkConfigError,
    NoFreeSubnet,
    StoreError,
    StoreUnavailable,
)
from flannelette.control.lease import (
    Added,
    Event,
    Lease,
    LeaseAttrs,
    LeaseFormatError,
    Removed,
    Snapshot,
    Subnets,
    parse_subnet_key,
)
from flannelette.control.localdb import BUSY_TIMEOUT, LocalDB, reading, writing
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.store import LEASE_TTL, Contact, Skipped, StoreStatus

log = logging.getLogger(__name__)

POLL = 0.25
"""Seconds between two looks of a watch."""
_Row = tuple[bytes, bytes | None, float | None, int]
"""Key, value, expires, revision: as stored, whatever type a foreign writer used."""
_COLUMNS = "CAST(key AS BLOB), CAST(value AS BLOB), expires, revision"
_CHANGES = f"SELECT {_COLUMNS} FROM change WHERE revision > ? ORDER BY revision"

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class LocalStore:
    """A subnet store (control/store.py) in the SQLite file at path.

    The file is made at the first call. What is no store is a StoreError at first, and
    StoreUnavailable once it was one. Times are Unix seconds by clock.
    """

    def __init__(
        self,
        path: str | Path,
        ttl: float = LEASE_TTL,
        clock: Callable[[], float] = time.time,
        busy_timeout: float = BUSY_TIMEOUT,
    ) -> None:
        self._file = LocalDB(Path(path), busy_timeout)
        self._ttl = ttl
        self._clock = clock
        self._rng = random.Random()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="localstore")
        self._closed = asyncio.Event()
        self._skipped = Skipped()
        self._revision = 0
        self._resyncs = 0
        self._answered = False
        self._error: str | None = None
        self._contact = Contact()

    async def network_config(self) -> bytes:
        return await self._run(self._read_config)

    async def set_network_config(self, text: bytes) -> None:
        """Write the network configuration, which the caller has checked."""
        await self._run(self._write_config, text)

    async def acquire(
        self, attrs: LeaseAttrs, config: NetworkConfig, previous: Subnets | None
    ) -> Lease:
        return await self._run(self._acquire, attrs, config, previous)

    async def renew(self, lease: Lease) -> Lease:
        return await self._run(self._renew, lease)

    async def reacquire(self, lease: Lease) -> Lease:
        return await self._run(self._reacquire, lease)

    async def watch(self) -> AsyncGenerator[Event, None]:
        place: _Place | None = None
        snapshots = 0
        failing = False
        while not self._closed.is_set():
            events: list[Event] = []
            try:
                events, reached = await self._run(self._look, place)
            except StoreError as error:
                if not failing and not self._closed.is_set():
                    log.warning("the watch waits for its store: error=%s", error)
                failing = True
            else:
                place, self._revision = reached, reached[1]
                if failing:
                    log.info("the watch goes on: path=%s", self._file.path)
                failing = False
            for event in events:
                if isinstance(event, Snapshot):
                    self._resyncs += snapshots > 0
                    snapshots += 1
                yield event
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._closed.wait()

    def status(self) -> StoreStatus:
        return StoreStatus(
            kind="local",
            connected=self._answered and not self._error,
            revision=self._revision,
            resyncs=self._resyncs,
            skipped=self._skipped.count,
            error=self._error,
            outage=self._contact.outage,
            age=self._contact.age,
        )

    async def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._error = "closed"
        await asyncio.get_running_loop().run_in_executor(self._worker, self._file.close)
        self._worker.shutdown()

    async def _run(self, work: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Call work(connection, *args) in the worker; SQLite's errors become ours."""

        def call() -> T:
            if self._closed.is_set():
                raise StoreUnavailable("the store is closed")
            try:
                return work(self._file.connection(), *args)
            except sqlite3.Error as error:
                raise self._file.translated(error) from error

        if self._closed.is_set():
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._worker, call)
        except (LeaseLost, NoFreeSubnet, NetworkConfigError):
            self._note(None)  # no is an answer too
            raise
        except StoreError as error:
            self._note(str(error))
            if self._answered:  # what was a store once can be one again
                raise StoreUnavailable(str(error)) from error
            raise
        self._note(None)
        return result

    def _note(self, error: str | None) -> None:
        self._error = error
        self._answered |= error is None
        if error is None:
            self._contact.heard()
        else:
            self._contact.lost()

    # From here on: in the worker.

    def _read_config(self, db: sqlite3.Connection) -> bytes:
        row = db.execute("SELECT CAST(text AS BLOB) FROM config").fetchone()
        if row is None:
            path = self._file.path
            raise NetworkConfigError(
                f"local store {path} has no network config: write it with "
                f"`flannelette net-config --store=local:{path} JSON`"
            )
        text: bytes = row[0]
        return text

    def _write_config(self, db: sqlite3.Connection, text: bytes) -> None:
        db.execute("INSERT OR REPLACE INTO config (id, text) VALUES (1, ?)", (text,))

    def _acquire(
        self,
        db: sqlite3.Connection,
        attrs: LeaseAttrs,
        config: NetworkConfig,
        previous: Subnets | None,
    ) -> Lease:
        self._expire(db)
        with writing(db):
            leases, blocked = self._list(db)
            ours = attrs.public_ip
            match choose(leases, ours, config, previous, self._rng, blocked):
                case Reuse(lease):
                    return self._put(db, replace(lease, attrs=attrs))
                case Create((v4, v6), stale):
                    if stale is not None:
                        db.execute("DELETE FROM lease WHERE key = ?", (stale.key,))
                    return self._put(db, Lease(v4, attrs, v6))

    def _renew(self, db: sqlite3.Connection, lease: Lease) -> Lease:
        self._expire(db)
        with writing(db):
            row = db.execute(
                "SELECT revision FROM lease WHERE key = ?", (lease.key,)
            ).fetchone()
            if row is None:
                raise LeaseLost(f"the lease on {lease.subnets} is gone")
            if row[0] != lease.revision:
                raise LeaseLost(f"the lease on {lease.subnets} was written by another")
            return self._put(db, lease)

    def _reacquire(self, db: sqlite3.Connection, lease: Lease) -> Lease:
        self._expire(db)
        with writing(db):
            leases, blocked = self._list(db)
            reason = conflict(lease, leases, blocked)
            if reason is not None:
                raise LeaseLost(reason)
            permanent = any(it.permanent for it in leases if it.key == lease.key)
            return self._put(db, replace(lease, permanent=permanent))

    def _look(
        self, db: sqlite3.Connection, place: _Place | None
    ) -> tuple[list[Event], _Place]:
        """What changed since place, or a snapshot if that cannot be said any more."""
        self._expire(db)
        if place is not None and place == (db, _head(db)):
            return [], place
        with reading(db):
            head = _head(db)
            if place is not None and place[0] is db:
                seen = place[1]
                rows = db.execute(_CHANGES, (seen,)).fetchall()
                if len(rows) == head - seen:
                    return self._events(rows), (db, head)
            leases, _ = self._list(db)
            return [Snapshot(tuple(leases))], (db, head)

    def _expire(self, db: sqlite3.Connection) -> None:
        """Delete the leases whose time is up, outside of any transaction: it stays
        done if what follows fails. Reads first, since a write has to queue."""
        now = (self._clock(),)
        if db.execute("SELECT 1 FROM lease WHERE expires <= ?", now).fetchone():
            db.execute("DELETE FROM lease WHERE expires <= ?", now)

    def _put(self, db: sqlite3.Connection, lease: Lease) -> Lease:
        expires = None if lease.permanent else self._clock() + self._ttl
        db.execute(
            "INSERT INTO lease (key, value, expires) VALUES (?, ?, ?) ON CONFLICT (key)"
            " DO UPDATE SET value = excluded.value, expires = excluded.expires",
            (lease.key, lease.attrs.encode(), expires),
        )
        (revision,) = db.execute(
            "SELECT revision FROM lease WHERE key = ?", (lease.key,)
        ).fetchone()
        return lease.written(expires, revision)

    def _list(self, db: sqlite3.Connection) -> tuple[list[Lease], list[Subnets]]:
        """All leases in key order, and the subnets of entries that are no leases."""
        leases: list[Lease] = []
        blocked: list[Subnets] = []
        for row in db.execute(f"SELECT {_COLUMNS} FROM lease ORDER BY key"):
            match self._read(row):
                case Lease() as lease:
                    leases.append(lease)
                case Subnets() as subnets:
                    blocked.append(subnets)
        return leases, blocked

    def _events(self, rows: list[_Row]) -> list[Event]:
        events: list[Event] = []
        for row in rows:
            match self._read(row):
                case Lease() as lease:
                    events.append(Added(lease))
                case Subnets(v4, v6) if row[1] is None:
                    events.append(Removed(v4, v6))
        return events

    def _read(self, row: _Row) -> Lease | Subnets | None:
        """The lease in a row; its subnets alone if the value is gone or no lease."""
        key, value, expires, revision = row
        subnets: Subnets | None = None
        try:
            subnets = parse_subnet_key(key.decode())
            if value is None:
                return subnets
            attrs = LeaseAttrs.decode(value)
        except (UnicodeDecodeError, LeaseFormatError) as error:
            if value is not None:
                self._skipped.note(key.decode(errors="backslashreplace"), value, error)
            return subnets
        return Lease(subnets.v4, attrs, subnets.v6, expires is None, expires, revision)


_Place = tuple[sqlite3.Connection, int]
"""Where a watch is: in which file, and the last revision it has seen."""


def _head(db: sqlite3.Connection) -> int:
    """The last revision; 0 if nothing was ever written."""
    (revision,) = db.execute("SELECT max(revision) FROM change").fetchone()
    return revision or 0
