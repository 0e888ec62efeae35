"""The local store's file for tests, written behind the stores' back or by programs."""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from flannelette.control.localstore import LocalStore
from tests.helpers.storerig import DEADLINE, Entry, Rig


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


def script(text: str, *args: object, prefix: tuple[str, ...] = ()) -> list[str]:
    return [*prefix, sys.executable, "-c", text, *map(str, args)]
