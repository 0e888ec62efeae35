"""Keeping our own lease: renew it in time, and take it again when it was revoked.

A store that does not answer is never fatal: forwarding goes on without it. One that
refuses (a password, a permission) is fatal only before there is a lease, when it means
a wrong setting; later it is waited out in the same way. Once a lease is held, only
another node on our subnet ends the daemon (LeaseLost).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from flannelette.control.errors import LeaseLost, StoreError, StoreUnavailable
from flannelette.control.lease import Added, Event, Lease, Removed, Snapshot
from flannelette.control.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK = 60.0
"""Seconds between two looks at the clock; a failed renewal is tried again at the next
(E20). Short sleeps survive clocks that jump and machines that slept."""
RETRY_FIRST, RETRY_MOST = 0.5, 5.0
"""Seconds between tries when the store must answer before anything can go on."""


def is_fatal(error: StoreError, lease_held: bool) -> bool:
    """Must the daemon end, or is the store asked again later?"""
    if lease_held:
        return isinstance(error, LeaseLost)
    return not isinstance(error, StoreUnavailable)


async def insist(what: str, call: Callable[[], Awaitable[T]], lease_held: bool) -> T:
    """Call until it succeeds; say once that it does not, once that it does.

    Raises StoreError where that is fatal."""
    pause = RETRY_FIRST
    said = False
    while True:
        try:
            result = await call()
        except StoreError as error:
            if is_fatal(error, lease_held):
                raise
            if not said:
                log.warning("waiting for the store: to=%r error=%s", what, error)
                said = True
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MOST)
        else:
            if said:
                log.info("the store answers again: to=%r", what)
            return result


class LeaseKeeper:
    """Holds our lease for as long as the daemon runs."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        margin: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`margin`: renew so many seconds before the lease expires."""
        self.lease = lease
        self._store = store
        self._margin = margin
        self._clock = clock
        self._writing = asyncio.Lock()

    async def renew_in_time(self) -> None:
        """Renew for ever. Raises LeaseLost."""
        failing = False
        while True:
            await asyncio.sleep(min(self._due_in(), LOOK))
            if self._due_in() > 0:
                continue
            try:
                await self._renew()
                failing = False
            except StoreError as error:
                if is_fatal(error, lease_held=True):
                    raise
                if not failing:
                    log.warning("the lease is not renewed yet: error=%s", error)
                failing = True
                await asyncio.sleep(LOOK)

    def _due_in(self) -> float:
        """Seconds until the lease should be renewed, 0 at least."""
        if self.lease.expires is None:
            return math.inf
        return max(0.0, self.lease.expires - self._margin - self._clock())

    async def _renew(self) -> None:
        async with self._writing:
            try:
                self.lease = await self._store.renew(self.lease)
            except LeaseLost as error:
                # Gone, or somebody else's: taking it again tells which.
                log.warning("the lease was lost: reason=%s", error)
                self.lease = await self._store.reacquire(self.lease)
            log.info("lease renewed: subnet=%s", self.lease.subnets)

    async def notice(self, event: Event) -> None:
        """See what an event means for our own lease. Raises LeaseLost."""
        if not self._revoked(event):
            return
        async with self._writing:
            log.warning("our lease was revoked: subnet=%s", self.lease.subnets)
            self.lease = await insist(
                "take the lease again",
                lambda: self._store.reacquire(self.lease),
                lease_held=True,
            )
            log.info("lease taken again: subnet=%s", self.lease.subnets)

    def _revoked(self, event: Event) -> bool:
        """Is our lease gone? Raises LeaseLost if the event shows another holder."""
        own = self.lease
        match event:
            case Removed(subnet, subnet6):
                return (subnet, subnet6) == own.subnets
            case Added(lease):
                holders = [lease]
            case Snapshot(leases):
                holders = [lease for lease in leases if lease.subnets == own.subnets]
                if not holders:
                    return True
        for lease in holders:
            same = lease.attrs.public_ip == own.attrs.public_ip
            if lease.subnets == own.subnets and not same:
                raise LeaseLost(
                    f"{own.subnets} is held by {lease.attrs.public_ip} now, "
                    f"not by us ({own.attrs.public_ip})"
                )
        return False
