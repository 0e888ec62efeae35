"""A running node: it follows the leases, keeps its own, and lets its carrier repair."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing, suppress

from flannelette.control.backends.backend import Routes, Subnet
from flannelette.control.blackhole import BlackholeKeeper
from flannelette.control.carrier import Carrier
from flannelette.control.errors import one_line
from flannelette.control.keeper import LeaseKeeper
from flannelette.control.lease import Snapshot
from flannelette.control.pending import Pending
from flannelette.control.plan import Plan
from flannelette.control.rules.keeper import RulesKeeper
from flannelette.control.store import Store
from flannelette.control.table import Ignored, LeaseTable
from flannelette.control.taskgroup import TaskGroup
from flannelette.tun.repairs import made_before

log = logging.getLogger(__name__)

RECONCILE = 10.0
"""Seconds between two looks at what the carrier needs of the kernel."""
RETRY = 1.0
"""Seconds between the first two tries to repair it, and twice as many between the next
two: to compare all with a thousand peers takes the kernel a while."""
GATHER = 0.01
"""Seconds between two times that the carrier is told of changes."""
EACH = 100
"""Changes at once that are told in the log one by one: a journal takes no thousands."""


class Node:
    """What runs once there is a lease."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        keeper: LeaseKeeper,
        carrier: Carrier,
        rules: RulesKeeper | None = None,
        blackholes: BlackholeKeeper | None = None,
    ) -> None:
        self.keeper = keeper
        self.carrier = carrier
        self.table = LeaseTable(keeper.lease, plan.network, plan.backend)
        self.heard = asyncio.Event()
        """Set once the store has told of all peers, and there are routes to them."""
        self._store = store
        self._rules = rules
        self._blackholes = blackholes
        self._pending = Pending()
        self._changed = asyncio.Event()
        self._repairs = 0
        self._error: str | None = None
        """What the carrier lacks right now."""

    @property
    def carrier_error(self) -> str | None:
        """What the carrier lacks right now."""
        return self._error

    @property
    def rules_error(self) -> str | None:
        """Why rules that somebody asked for by name are not kept right now."""
        rules = self._rules
        return rules.error if rules is not None and rules.asked_for else None

    @property
    def repairs(self) -> int:
        """Of what the carrier needs, of traffic rules, and of blackholes."""
        others = (self._rules, self._blackholes)
        return self._repairs + sum(it.repairs for it in others if it is not None)

    @property
    def error(self) -> str | None:
        """What cannot be repaired right now, or written to the store."""
        rules = self._rules.error if self._rules else None
        blackholes = self._blackholes.error if self._blackholes else None
        return self._error or rules or blackholes or self.keeper.error

    async def live(self) -> None:
        """Run until cancelled. Raises LeaseLost when another node has our subnet."""
        async with TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="follow")
            tasks.create_task(self._steer(), name="steer")
            tasks.create_task(self.keeper.keep(), name="lease")
            tasks.create_task(self._reconcile(), name="reconcile")
            if self._rules is not None:
                tasks.create_task(self._rules.keep(), name="rules")
            if self._blackholes is not None:
                tasks.create_task(self._blackholes.keep(), name="blackholes")

    async def _follow(self) -> None:
        """Keep the routes in step with the leases."""
        async with aclosing(self._store.watch()) as events:
            async for event in events:
                changes = self.table.apply(event)
                self._pending.add(changes)
                # Also for a snapshot that changes nothing: only then the carrier knows
                # that there are no others.
                if changes or isinstance(event, Snapshot):
                    self._changed.set()
                self.keeper.notice(event)
                _tell_ignored([it for it in changes if isinstance(it, Ignored)])

    async def _steer(self) -> None:
        """Tell the carrier at once, and then of what has come meanwhile."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            removed, added = self._pending.take()
            self.carrier.apply(removed, added)
            self.heard.set()
            _tell(removed, added)  # only now: of many, it takes longer than to do
            await asyncio.sleep(GATHER)

    async def _reconcile(self) -> None:
        """Bring the carrier back to what it should be, whoever changed it."""
        pause, retry = RECONCILE, RETRY
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.carrier.due.wait()
            self.carrier.due.clear()
            try:
                self._count(await self.carrier.reconcile())
                self._error, pause, retry = None, RECONCILE, RETRY
            except OSError as error:
                self._count(made_before(error))
                why = one_line(error)
                if why != self._error:
                    log.error("cannot be repaired: error=%s", why)
                self._error = why
                pause, retry = retry, min(2 * retry, RECONCILE)

    def _count(self, repairs: Sequence[str]) -> None:
        for repair in repairs:
            self._repairs += 1
            log.warning("repaired: what=%r device=%s", repair, self.carrier.device)


def _tell(removed: list[Subnet], added: Routes) -> None:
    level = logging.INFO
    if len(removed) + len(added) > EACH:
        log.info("routes: set=%d removed=%d", len(added), len(removed))
        level = logging.DEBUG
    if log.isEnabledFor(level):
        for subnet in removed:
            log.log(level, "route removed: subnet=%s", subnet)
        for subnet, route in added.items():
            log.log(level, "route: subnet=%s peer=%s", subnet, route.peer)


def _tell_ignored(ignored: list[Ignored]) -> None:
    if len(ignored) > EACH:
        for reason, count in Counter(it.reason for it in ignored).items():
            log.warning("ignored leases: count=%d reason=%r", count, reason)
        return
    for it in ignored:
        log.warning("ignored a lease: subnet=%s reason=%r", it.subnets, it.reason)
