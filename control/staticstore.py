"""The static store: `--store=static:FILE.toml`, a fixed list of nodes in a file.

The file's format is in staticfile.py. A node finds its own entry by its public IP, and
its lease is permanent. What the lease says of us comes from the file as well, since
others read nothing else: a vxlan node takes its MAC from there. The file is read
again when it has changed, be it in place or by a rename, and then left alone for
one look; or at once by reload(). A file that is wrong is refused as a whole, and the
last good one stays in force. A change of [network] waits for a restart, like a change
of flannel's own (E12).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

from flannelette.control.errors import (
    ConfigError,
    LeaseLost,
    StoreError,
    StoreUnavailable,
)
from flannelette.control.lease import Event, Lease, LeaseAttrs, Snapshot, Subnets
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.staticfile import StaticFile
from flannelette.control.store import Contact, StoreStatus

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks at the file's inode, size and time."""
_Signature = tuple[int, int, int, int] | None
"""Device, inode, size and time of change (ns) of a file; None without one."""


class StaticStore:
    """A subnet store (control/store.py) in the file at path, which is read at once.

    Raises ConfigError, with the path, if the file cannot be used at the start.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._seen = self._loaded = self._signature()
        self._file = self._parse(self._read())
        self._revision = 1
        self._refused: bytes | None = None
        self._error: str | None = None
        self._contact = Contact()
        self._contact.heard()
        self._closed = False
        self._wake = asyncio.Event()

    async def network_config(self) -> bytes:
        return self._in_force().network

    async def acquire(
        self, attrs: LeaseAttrs, config: NetworkConfig, previous: Subnets | None
    ) -> Lease:
        """Our own entry, whatever is in `attrs` beside our public IP, and whatever was
        `previous`. Raises StoreError without one."""
        own = self._in_force().leases.get(attrs.public_ip)
        if own is None:
            raise StoreError(
                f"{self._path}: no node has our public IP {attrs.public_ip}"
            )
        return own

    async def renew(self, lease: Lease) -> Lease:
        own = self._in_force().leases.get(lease.attrs.public_ip)
        if own is None or own.key != lease.key:
            raise LeaseLost(
                f"{self._path}: no longer gives {lease.subnets} to "
                f"{lease.attrs.public_ip}"
            )
        return own

    async def reacquire(self, lease: Lease) -> Lease:
        return await self.renew(lease)

    async def watch(self) -> AsyncGenerator[Event, None]:
        """A Snapshot for each accepted content."""
        seen = 0
        while not self._closed:
            if seen != self._revision:
                seen = self._revision
                yield Snapshot(tuple(self._file.leases.values()))
                continue
            try:
                async with asyncio.timeout(POLL):
                    await self._wake.wait()
            except TimeoutError:
                self.look()

    def reload(self) -> None:
        """Read the file now (SIGHUP). A wrong one is said, once, and not used."""
        self._loaded = self._signature()
        content: bytes | None = None
        try:
            content = self._read()
            file = self._parse(content)
        except ConfigError as error:
            if self._error is None or content != self._refused:
                log.warning("static store keeps its nodes: error=%s", error)
            self._error, self._refused = str(error), content
            self._contact.lost()
            return
        self._error = None
        self._contact.heard()
        if file == self._file:
            return
        log.info("static store: path=%s nodes=%d", self._path, len(file.leases))
        if file.network != self._file.network:
            log.warning("[network] has changed; restart to use it: path=%s", self._path)
        self._file = file
        self._revision += 1
        self._wake_watches()

    def _signature(self) -> _Signature:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}") from error

    def _parse(self, content: bytes) -> StaticFile:
        try:
            return StaticFile.parse(content)
        except ConfigError as error:
            raise ConfigError(f"{self._path}: {error}") from None

    def _in_force(self) -> StaticFile:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return self._file

    def _wake_watches(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()

    def look(self) -> None:
        """Reload a file that has changed, but not since the last look: who writes it
        in place is done by then. The watch looks every POLL seconds."""
        signature = self._signature()
        settled = signature == self._seen
        self._seen = signature
        # What could not be read may be readable without a change: EMFILE, ESTALE.
        unread = self._error is not None and self._refused is None
        if settled and (signature != self._loaded or unread):
            self.reload()
        elif self._error is None:
            self._contact.heard()

    def status(self) -> StoreStatus:
        return StoreStatus(
            kind="static",
            connected=self._error is None and not self._closed,
            revision=self._revision,
            resyncs=self._revision - 1,
            skipped=0,
            error=self._error,
            outage=self._contact.outage,
            age=self._contact.age,
        )

    async def close(self) -> None:
        self._closed = True
        self._wake_watches()
