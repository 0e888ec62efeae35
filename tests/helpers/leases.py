"""Other nodes' leases, written straight into a local store, or out of it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from flannelette.control.lease import LeaseAttrs
from flannelette.control.localstore import LocalStore
from flannelette.control.netconfig import NetworkConfig


def write_leases(path: Path, *all_attrs: LeaseAttrs) -> list[str]:
    """Take a lease with each of these attributes; their subnets."""
    return asyncio.run(_write(path, all_attrs))


async def _write(path: Path, all_attrs: tuple[LeaseAttrs, ...]) -> list[str]:
    store = LocalStore(path)
    try:
        config = NetworkConfig.parse(await store.network_config())
        return [
            str((await store.acquire(attrs, config, None)).subnet)
            for attrs in all_attrs
        ]
    finally:
        await store.close()


def delete_leases(path: Path, *subnets: str) -> None:
    """As their end would."""
    with closing(sqlite3.connect(path)) as db, db:
        for subnet in subnets:
            db.execute("DELETE FROM lease WHERE key = ?", [subnet.replace("/", "-")])


def put_lease(path: Path, subnet: str, attrs: LeaseAttrs) -> None:
    """As no store of ours would: whoever else has the subnet, or the public IP."""
    with closing(sqlite3.connect(path)) as db, db:
        row = [subnet.replace("/", "-"), attrs.encode()]
        db.execute("INSERT INTO lease (key, value) VALUES (?, ?)", row)
