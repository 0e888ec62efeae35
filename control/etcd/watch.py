"""Watching the leases in etcd: list at revision R, then watch from R+1, for ever.

No gap, whatever breaks: the next revision wanted moves on only past changes that were
delivered, and a new watch starts there. Where the history is gone (compacted, or etcd
was restored from a backup), the leases are listed anew and delivered as a Snapshot.
flannel-behaviour.md section 1.5.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress

from flannelette.control.errors import StoreError
from flannelette.control.etcd.channel import (
    Change,
    ContinuityLost,
    Entry,
    EtcdChannel,
    Listing,
)
from flannelette.control.etcd.health import Health
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
from flannelette.control.store import Skipped

log = logging.getLogger(__name__)

BACKOFF_FIRST, BACKOFF_MOST = 0.2, 2.0
"""Seconds before a broken watch is begun again."""


class LeaseDirectory:
    """`<prefix>/subnets/`: what its keys and values mean.

    With the slash, unlike flanneld, which so sees `<prefix>/subnets_meta` too (H1)."""

    def __init__(self, path: bytes) -> None:
        self.first = path + b"/"
        self.end = path + b"0"  # the byte after the slash
        self.skipped = Skipped()
        self._known: dict[bytes, tuple[Entry, Lease]] = {}
        """Of the last listing."""

    def key(self, lease: Lease) -> bytes:
        return self.first + lease.key.encode()

    def leases(
        self, listing: Listing, again_soon: bool = False
    ) -> tuple[list[Lease], list[Subnets]]:
        """The leases, and the subnets of entries whose key alone looks like one.

        `again_soon`: what is the same in the next listing is not read again. A start
        lists twice, to take a lease and to watch."""
        leases: list[Lease] = []
        blocked: list[Subnets] = []
        known, self._known = self._known, {}
        for entry in listing.entries:
            before, lease = known.get(entry.key, (None, None))
            if entry != before:
                lease = self.lease(entry)
            if lease is not None:
                leases.append(lease)
                if again_soon:
                    self._known[entry.key] = entry, lease
                continue
            with suppress(LeaseFormatError):
                blocked.append(parse_subnet_key(self._name(entry.key)))
        return leases, blocked

    def event(self, change: Change) -> Event | None:
        """What a change means; None for what is no lease.

        A lease whose value turns bad thus stays as it was: what is known of that node
        is still the best guess, and one bad write must not cut it off (H1)."""
        if isinstance(change, Entry):
            lease = self.lease(change)
            return None if lease is None else Added(lease)
        with suppress(LeaseFormatError):
            return Removed(*parse_subnet_key(self._name(change.key)))
        return None

    def lease(self, entry: Entry) -> Lease | None:
        """The lease that an entry is; None, and noted, if it is none."""
        try:
            subnet, subnet6 = parse_subnet_key(self._name(entry.key))
            attrs = LeaseAttrs.decode(entry.value)
        except LeaseFormatError as error:
            self.skipped.note(self._name(entry.key), entry.value, error)
            return None
        permanent = entry.lease == 0
        return Lease(subnet, attrs, subnet6, permanent, revision=entry.revision)

    def _name(self, key: bytes) -> str:
        return key.removeprefix(self.first).decode("utf-8", "backslashreplace")


class LeaseWatch:
    """One watch, as an iterator of events."""

    def __init__(
        self, channel: EtcdChannel, directory: LeaseDirectory, health: Health
    ) -> None:
        self._channel = channel
        self._directory = directory
        self._health = health
        self._next = 0
        """The revision from which changes are wanted; 0: list first."""

    async def events(self) -> AsyncGenerator[Event, None]:
        """A Snapshot, then changes, until the channel is closed."""
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    yield event
        finally:
            self._health.close()

    async def _events(self) -> AsyncGenerator[Event, None]:
        directory = self._directory
        pauses = backoff()
        while not self._channel.closed.is_set():
            try:
                if self._next == 0:
                    yield await self._list()
                watch = self._channel.watch(directory.first, directory.end, self._next)
                async with aclosing(watch) as batches:
                    async for batch in batches:
                        self._health.up()
                        pauses = backoff()
                        for change in batch:
                            event = directory.event(change)
                            if event is not None:
                                yield event
                            self._health.revision = change.revision
                        if batch:
                            self._next = batch[-1].revision + 1
            except ContinuityLost as error:
                log.info("the leases are listed anew: reason=%s", error)
                self._health.resyncs += 1
                self._next = 0
            except StoreError as error:
                if not self._channel.closed.is_set():
                    self._health.down(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(next(pauses)):
                    await self._channel.closed.wait()

    async def _list(self) -> Snapshot:
        directory = self._directory
        listing = await self._channel.list(directory.first, directory.end)
        leases, _ = directory.leases(listing)
        self._health.revision = listing.revision
        self._next = listing.revision + 1
        return Snapshot(tuple(leases))


def backoff() -> Iterator[float]:
    """Seconds to wait, longer each time, and not the same for all nodes."""
    pause = BACKOFF_FIRST
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, BACKOFF_MOST)
