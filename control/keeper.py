"""Keeping our own lease: renew it in time, and take it again when it was revoked.

A store that does not answer is never fatal: forwarding goes on without it. One that
refuses (a password, a permission) is fatal only before there is a lease, when it means
a wrong setting; later it is waited out in the same way. Once a lease is held, only
another node on our subnet ends the daemon (LeaseLost).

Events are noticed at once and the lease is taken again beside them: a store that can be
read and not written goes on telling of peers. How long the lease lasts is counted on a
clock that nobody sets, and that goes on while the machine sleeps.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from flannelette.control.errors import LeaseLost, StoreError, StoreUnavailable
from flannelette.control.lease import Added, Event, Lease, Removed, Snapshot
from flannelette.control.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK = 60.0
"""Seconds between two looks at the clock; a failed renewal is tried again at the next
(E20). Short sleeps survive machines that slept."""
RETRY_FIRST, RETRY_MOST = 0.5, 5.0
"""Seconds between tries when the store must answer before anything can go on."""


def steady() -> float:
    """Seconds, those included in which the machine slept (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


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
        steady: Callable[[], float] = steady,
    ) -> None:
        """`margin`: renew so many seconds before the lease expires. `clock` tells the
        time of a lease's end, and is read only when there is a new one."""
        self.revoked = False
        """Our lease is gone, and not taken again yet."""
        self.error: str | None = None
        """Why it is not renewed, or not taken again."""
        self._store = store
        self._margin = margin
        self._clock = clock
        self._steady = steady
        self._gone = asyncio.Event()
        self._hold(lease)

    def _hold(self, lease: Lease) -> None:
        self.lease = lease
        self.error = None
        self._end = math.inf
        if lease.expires is not None:
            self._end = self._steady() + lease.expires - self._clock()

    def seconds_left(self) -> float | None:
        """Until the lease runs out, less than 0 after that; None if it is permanent."""
        return None if self._end == math.inf else self._end - self._steady()

    def _due_in(self) -> float:
        """Seconds until the lease should be renewed, 0 at least."""
        return max(0.0, self._end - self._margin - self._steady())

    async def keep(self) -> None:
        """Renew in time, take again when revoked, for ever. Raises LeaseLost."""
        asked = False
        while True:
            # Also after a success: for less than the margin, it is due again at once.
            pause = LOOK if asked else min(self._due_in(), LOOK)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._gone.wait()
            asked = False
            if self._gone.is_set():
                await self._take_again()
            elif self._due_in() == 0:
                asked = True
                await self._renew()

    async def _renew(self) -> None:
        try:
            self._hold(await self._store.renew(self.lease))
        except LeaseLost as error:
            # Gone, or somebody else's: taking it again tells which.
            self._lose(str(error))
        except StoreError as error:
            if self.error is None:
                log.warning("the lease is not renewed yet: error=%s", error)
            self.error = str(error)
        else:
            log.info("lease renewed: subnet=%s", self.lease.subnets)

    async def _take_again(self) -> None:
        self._gone.clear()
        lease = await insist("take the lease again", self._reacquire, lease_held=True)
        self._hold(lease)
        self.revoked = self._gone.is_set()  # as soon as it was there
        if not self.revoked:
            log.info("lease taken again: subnet=%s", self.lease.subnets)

    async def _reacquire(self) -> Lease:
        try:
            return await self._store.reacquire(self.lease)
        except StoreError as error:
            self.error = str(error)
            raise

    def notice(self, event: Event) -> None:
        """See what an event means for our own lease. Raises LeaseLost."""
        if self._is_revoked(event):
            self._lose("the store has it no more")

    def _lose(self, reason: str) -> None:
        if not self.revoked:
            own = self.lease.subnets
            log.warning("our lease was revoked: subnet=%s reason=%r", own, reason)
        self.revoked = True
        self._gone.set()

    def _is_revoked(self, event: Event) -> bool:
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
