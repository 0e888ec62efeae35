"""What a subnet store asks of etcd, typed: a thin layer over aetcd's generated stubs.

Nothing outside this module and servers.py sees a gRPC or protobuf object.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import grpc.aio
from aetcd import rpc

from flannelette.control.errors import StoreError, StoreUnavailable
from flannelette.control.etcd.servers import Servers
from flannelette.control.etcd.settings import EtcdSettings

__all__ = [
    "Change",
    "ContinuityLost",
    "Deleted",
    "Entry",
    "EtcdChannel",
    "EtcdSettings",
    "Listing",
]

CREATED = 3.0
"""Seconds for a watch to be confirmed; a frozen server still accepts connections."""


class ContinuityLost(StoreError):
    """The history from the wanted revision on is not to be had: list anew."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it was written."""

    key: bytes
    value: bytes
    revision: int
    """Of this very write."""
    lease: int
    """The id of the etcd lease that it lives by; 0: it lives for ever."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """A key was deleted, or its etcd lease ran out."""

    key: bytes
    revision: int


Change = Entry | Deleted


@dataclass(frozen=True, slots=True)
class Listing:
    """What was there at a revision, in key order."""

    revision: int
    entries: tuple[Entry, ...]


class EtcdChannel:
    """Calls and watches. Each raises StoreUnavailable and StoreError as Servers does.

    Ranges go from a first key up to before an end; an empty end means that one key."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Raises ConfigError for certificates that cannot be used."""
        self._servers = Servers(settings)
        self.closed = self._servers.closed

    @property
    def answered(self) -> bool:
        """Whether the last call was answered."""
        return self._servers.answered

    @property
    def error(self) -> str | None:
        """Why it was not, in one line."""
        return self._servers.error

    def reload(self) -> bool:
        """Read the certificates again; were they new ones?"""
        return self._servers.reload()

    async def close(self) -> None:
        """End all calls and watches; they raise StoreUnavailable."""
        await self._servers.close()

    async def get(self, key: bytes) -> Entry | None:
        """The key's entry, or None where there is none."""
        listing = await self.list(key, b"")
        return listing.entries[0] if listing.entries else None

    async def list(self, first: bytes, end: bytes) -> Listing:
        """All entries of a range."""
        request = rpc.RangeRequest(key=first, range_end=end)
        answer = await self._servers.call(lambda server: server.kv.Range, request)
        entries = tuple(_entry(kv) for kv in answer.kvs)
        return Listing(int(answer.header.revision), entries)

    async def put(
        self,
        key: bytes,
        value: bytes,
        lease: int,
        guard: int,
        delete: tuple[bytes, int] | None = None,
        unless_created: tuple[bytes, bytes, int] | None = None,
    ) -> int | None:
        """Write if the key's revision is still `guard` (0: it is absent).

        `delete` names another key to be deleted in the same transaction, and its
        revision; `unless_created` a range in which no key must have been created after
        a revision. Returns the write's revision, or None where a guard did not hold.
        After StoreUnavailable nobody knows whether it was applied: read the key before
        trying again."""
        guards = [_revision_is(key, guard)]
        put = rpc.PutRequest(key=key, value=value, lease=lease)
        writes = [rpc.RequestOp(request_put=put)]
        if delete is not None:
            guards.append(_revision_is(*delete))
            deletion = rpc.DeleteRangeRequest(key=delete[0])
            writes.append(rpc.RequestOp(request_delete_range=deletion))
        if unless_created is not None:
            guards.append(_none_created_after(*unless_created))
        request = rpc.TxnRequest(compare=guards, success=writes)
        answer = await self._servers.call(
            lambda server: server.kv.Txn, request, again=False
        )
        return int(answer.header.revision) if answer.succeeded else None

    async def grant(self, ttl: int) -> tuple[int, int]:
        """A new etcd lease: its id, and the seconds that it lives."""
        request = rpc.LeaseGrantRequest(TTL=ttl)
        answer = await self._servers.call(
            lambda server: server.lease.LeaseGrant, request
        )
        return int(answer.ID), int(answer.TTL)

    async def revoke(self, lease: int) -> None:
        """End an etcd lease, and with it the keys that live by it."""
        request = rpc.LeaseRevokeRequest(ID=lease)
        await self._servers.call(lambda server: server.lease.LeaseRevoke, request)

    async def watch(
        self, first: bytes, end: bytes, revision: int
    ) -> AsyncGenerator[tuple[Change, ...], None]:
        """All changes of a range from a revision on, in batches of whole revisions.

        The first batch is empty and says that the watch stands; later ones, that there
        is nothing new: etcd says so every ten minutes. It ends only with an exception:
        ContinuityLost, StoreUnavailable or StoreError."""
        request = rpc.WatchCreateRequest(
            key=first,
            range_end=end,
            start_revision=revision,
            fragment=True,
            progress_notify=True,
        )
        async with self._servers.stream(lambda server: server.watch.Watch) as call:
            answer = await self._created(call, request)
            if answer.header.revision < revision - 1:
                # etcd was restored from a backup, or emptied: what we know never
                # happened there, and this watch would wait for revisions far away.
                raise ContinuityLost("etcd is at an earlier revision than before")
            yield ()
            batch: list[Change] = []
            while True:
                answer = await self._next(call)
                batch += [_change(event) for event in answer.events]
                # Fragments may share a revision, so they count only together.
                if not answer.fragment:
                    yield tuple(batch)
                    batch = []

    async def _created(self, call: Any, request: Any) -> Any:
        async with self._servers.wait(CREATED):
            await call.write(rpc.WatchRequest(create_request=request))
            return self._checked(await call.read())

    async def _next(self, call: Any) -> Any:
        async with self._servers.wait(None):
            return self._checked(await call.read())

    def _checked(self, answer: Any) -> Any:
        if answer is grpc.aio.EOF or answer is None:  # None: no protobuf
            raise StoreUnavailable("the watch was ended")
        if answer.compact_revision:
            raise ContinuityLost("the history since was compacted")
        if answer.canceled:
            # Often for the token, and not always in so many words.
            self._servers.forget_token()
            reason = answer.cancel_reason.rpartition("desc = ")[2]
            raise StoreUnavailable(f"the watch was cancelled: {reason}")
        return answer


def _entry(kv: Any) -> Entry:
    return Entry(kv.key, kv.value, int(kv.mod_revision), int(kv.lease))


def _change(event: Any) -> Change:
    if event.type == rpc.Event.DELETE:
        return Deleted(event.kv.key, int(event.kv.mod_revision))
    return _entry(event.kv)


def _revision_is(key: bytes, revision: int) -> Any:
    """A guard of a transaction; an absent key has revision 0."""
    return rpc.Compare(
        key=key,
        target=rpc.Compare.MOD,
        result=rpc.Compare.EQUAL,
        mod_revision=revision,
    )


def _none_created_after(first: bytes, end: bytes, revision: int) -> Any:
    """A guard of a transaction: it holds for every key of the range, or there is none.
    Keys that were only written again since then do not matter."""
    return rpc.Compare(
        key=first,
        range_end=end,
        target=rpc.Compare.CREATE,
        result=rpc.Compare.LESS,
        create_revision=revision + 1,
    )
