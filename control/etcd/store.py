"""The subnet store in etcd, the one that flanneld's nodes share.

Every write of ours is a transaction guarded by the revision that was read, where
flanneld's renewals overwrite whatever is there (H7). A transaction whose answer got
lost is never repeated blindly: the key is read again, and tells by its value and its
etcd lease whether it was ours. flannel-behaviour.md section 1.

An IPv4 network's key is its subnet, so that "create if absent" keeps two nodes apart. A
dual-stack key names two subnets, and another key may have either of them; flanneld's
nodes that start together can thus end up with one IPv6 subnet. Here such a key is
created only if no other was since the leases were listed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace

from flannelette.control.allocate import Create, Reuse, choose, conflict
from flannelette.control.errors import (
    LeaseLost,
    NetworkConfigError,
    StoreError,
    StoreUnavailable,
)
from flannelette.control.etcd.channel import EtcdChannel, EtcdSettings
from flannelette.control.etcd.health import Health
from flannelette.control.etcd.watch import LeaseDirectory, LeaseWatch
from flannelette.control.lease import Event, Lease, LeaseAttrs, Subnets
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.store import LEASE_TTL, StoreStatus

log = logging.getLogger(__name__)

TRIES = 10
"""How often a lost race is run again (E18)."""
PUTS = 3
"""How often a write without an answer is sent, if it turns out not to be there."""
JITTER = 0.05
"""Seconds at most between two races, so that many nodes do not keep in step."""


class EtcdStore:
    """control.store.Store on etcd. Settings are checked at once, etcd is not asked."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Raises ConfigError for certificates that cannot be used."""
        self._config_key = settings.key("config")
        self._directory = LeaseDirectory(settings.key("subnets"))
        self._channel = EtcdChannel(settings)
        self._health = Health()
        self._rng = random.Random()
        # Etcd leases of ours whose write may have been applied or not.
        self._unsettled: deque[int] = deque(maxlen=16)
        self._warned = False

    async def network_config(self) -> bytes:
        entry = await self._channel.get(self._config_key)
        if entry is None:
            key = self._config_key.decode(errors="backslashreplace")
            raise NetworkConfigError(f"no network config in etcd: {key} is absent")
        return entry.value

    async def acquire(
        self, attrs: LeaseAttrs, config: NetworkConfig, previous: Subnets | None
    ) -> Lease:
        directory = self._directory
        for n in range(TRIES):
            listing = await self._channel.list(directory.first, directory.end)
            leases, blocked = directory.leases(listing, again_soon=True)
            choice = choose(
                leases, attrs.public_ip, config, previous, self._rng, blocked
            )
            match choice:
                case Reuse(own):
                    written = await self._write(replace(own, attrs=attrs))
                case Create((v4, v6), stale):
                    lease = Lease(v4, attrs, v6)
                    written = await self._write(lease, listing.revision, stale)
            if written is not None:
                return written
            await self._pause(n)
        raise StoreUnavailable(f"lost the race for a subnet {TRIES} times")

    async def renew(self, lease: Lease) -> Lease:
        for _ in range(TRIES):
            written = await self._write(lease)
            if written is not None:
                return written
            held = await self._held(lease)
            if held is None:
                raise LeaseLost(f"the lease on {lease.subnets} was deleted")
            if held.permanent != lease.permanent:
                raise LeaseLost(f"an operator changed the lease on {lease.subnets}")
            lease = held
        raise StoreUnavailable(f"somebody keeps writing the lease on {lease.subnets}")

    async def reacquire(self, lease: Lease) -> Lease:
        directory = self._directory
        for n in range(TRIES):
            held = await self._held(lease)
            if held is not None:
                return await self.renew(held)
            listing = await self._channel.list(directory.first, directory.end)
            reason = conflict(lease, *directory.leases(listing))
            if reason is not None:
                raise LeaseLost(reason)
            # Also where it was a reservation: the operator has withdrawn that.
            absent = Lease(lease.subnet, lease.attrs, lease.subnet6)
            written = await self._write(absent, listing.revision)
            if written is not None:
                return written
            await self._pause(n)
        raise StoreUnavailable(f"somebody keeps writing the lease on {lease.subnets}")

    async def _pause(self, losses: int) -> None:
        """After a lost race; longer each time, since there are many in it."""
        await asyncio.sleep(self._rng.uniform(0, JITTER * (1 + losses)))

    def watch(self) -> AsyncGenerator[Event, None]:
        return LeaseWatch(self._channel, self._directory, self._health).events()

    def status(self) -> StoreStatus:
        health, channel = self._health, self._channel
        watched = health.connected is not None
        return StoreStatus(
            kind="etcd",
            connected=bool(health.connected) if watched else channel.answered,
            revision=health.revision,
            resyncs=health.resyncs,
            skipped=self._directory.skipped.count,
            error=health.error if watched else channel.error,
            outage=health.contact.outage,
            age=health.contact.age,
        )

    def reload(self) -> None:
        if not self._channel.reload():
            log.info("no new certificates for etcd")

    async def close(self) -> None:
        await self._channel.close()

    async def _held(self, lease: Lease) -> Lease | None:
        """Our lease as it stands in etcd by now; None if it is absent.

        Raises LeaseLost when another node has it."""
        entry = await self._channel.get(self._directory.key(lease))
        if entry is None:
            return None
        held = self._directory.lease(entry)
        if held is None:
            raise LeaseLost(f"{lease.subnets} is taken by an entry that is no lease")
        if held.attrs.public_ip != lease.attrs.public_ip:
            raise LeaseLost(f"{lease.subnets} is held by {held.attrs.public_ip} now")
        # Not ours, not an answer of ours that got lost, not an operator's reservation.
        strange = entry.revision != lease.revision and not held.permanent
        if strange and entry.lease not in self._unsettled and not self._warned:
            self._warned = True
            log.warning(
                "another daemon writes leases with our public IP: public_ip=%s key=%s",
                lease.attrs.public_ip,
                lease.key,
            )
        return replace(lease, permanent=held.permanent, revision=held.revision)

    async def _write(
        self, lease: Lease, seen: int = 0, stale: Lease | None = None
    ) -> Lease | None:
        """Write a lease over its own revision (0: where there is none), and delete a
        stale one with it. None if somebody else wrote or deleted either before; or, in
        dual stack, created any lease after the revision `seen` (0: is welcome to)."""
        if lease.permanent:
            revision = await self._put(lease, 0, seen, stale)
            return None if revision is None else lease.written(None, revision)
        grant, ttl = await self._channel.grant(LEASE_TTL)
        expires = time.time() + ttl
        try:
            revision = await self._put(lease, grant, seen, stale)
        except StoreUnavailable:
            self._unsettled.append(grant)
            raise
        if revision is None:
            with suppress(StoreError):  # unused, it would run out by itself
                await self._channel.revoke(grant)
            return None
        return lease.written(expires, revision)

    async def _put(
        self, lease: Lease, grant: int, seen: int, stale: Lease | None
    ) -> int | None:
        """The transaction; and where its answer was lost, what became of it."""
        directory = self._directory
        key, value = directory.key(lease), lease.attrs.encode()
        delete = None if stale is None else (directory.key(stale), stale.revision)
        alone = lease.subnet6 is not None and seen > 0
        created = (directory.first, directory.end, seen) if alone else None
        lost = ""
        for _ in range(PUTS):
            try:
                revision = await self._channel.put(
                    key, value, grant, lease.revision, delete, created
                )
                if revision is not None or not lost:
                    return revision
                refused = True
            except StoreUnavailable as error:
                lost, refused = str(error), False
            entry = await self._channel.get(key)
            if entry is not None and (entry.value, entry.lease) == (value, grant):
                return entry.revision
            # As it was: not applied, or not yet. Once more is harmless then, for the
            # guard lets only one of the two through.
            if refused or (entry.revision if entry else 0) != lease.revision:
                return None
        raise StoreUnavailable(lost)
