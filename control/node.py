"""A running node: it follows the leases, keeps its own, and reconciles its link."""

from __future__ import annotations

import asyncio
import errno
import logging
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from flannelette.control.backend import UdpBackend
from flannelette.control.errors import HostError, one_line
from flannelette.control.interface import External
from flannelette.control.keeper import LeaseKeeper
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.store import Store
from flannelette.control.table import Change, DelRoute, Ignored, LeaseTable, SetRoute
from flannelette.dataplane.forwarder import Forwarder, Route
from flannelette.tun.device import TunDevice
from flannelette.tun.link import LinkState, Netlink

log = logging.getLogger(__name__)

RECONCILE = 10.0
"""Seconds between two looks at the link; a dead TUN is looked after at once."""
MIN_MTU = 68
"""Bytes that every IPv4 link must carry (RFC 791 section 3.2)."""
REOPEN_RETRY = 1.0
"""Seconds between two tries to replace a lost TUN."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided before anything was changed."""

    external: External
    network: NetworkConfig
    backend: UdpBackend

    def __post_init__(self) -> None:
        """Raises HostError for an interface too small for IPv4 over the backend."""
        if self.mtu < MIN_MTU:
            raise HostError(
                f"interface {self.external.name}: its MTU {self.external.mtu} leaves "
                f"{self.mtu} bytes for the overlay; {MIN_MTU} are needed"
            )

    @property
    def mtu(self) -> int:
        """Of the overlay, bytes."""
        return self.backend.mtu(self.external.mtu)


class Node:
    """What runs once there is a lease."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        keeper: LeaseKeeper,
        forwarder: Forwarder,
        netlink: Netlink,
    ) -> None:
        self.keeper = keeper
        self.forwarder = forwarder
        self.tun_name: str | None = None
        self.repairs = 0
        self.error: str | None = None
        """What is wrong with the link right now."""
        self._plan = plan
        self._store = store
        self._netlink = netlink
        self._pump_ended = asyncio.Event()

    async def live(self) -> None:
        """Run until cancelled. Raises LeaseLost when another node has our subnet."""
        async with _TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="follow")
            tasks.create_task(self.keeper.renew_in_time(), name="renew")
            tasks.create_task(self._reconcile(), name="reconcile")

    # ---- leases ----------------------------------------------------------------------

    async def _follow(self) -> None:
        """Keep the routes in step with the leases."""
        own, network = self.keeper.lease, self._plan.network.network
        table = LeaseTable(own.subnet, own.attrs.public_ip, network)
        async with aclosing(self._store.watch()) as events:
            async for event in events:
                self._apply(table.apply(event))
                await self.keeper.notice(event)

    def _apply(self, changes: list[Change]) -> None:
        added: list[Route] = []
        removed: list[Route] = []
        for change in changes:
            match change:
                case SetRoute(subnet, attrs):
                    added.append(self._plan.backend.route(subnet, attrs))
                    log.info("route: subnet=%s peer=%s", subnet, attrs.public_ip)
                case DelRoute(subnet):
                    removed.append(Route.to(subnet))
                    log.info("route removed: subnet=%s", subnet)
                case Ignored(subnet, reason):
                    log.warning("ignored a lease: subnet=%s reason=%r", subnet, reason)
        if removed:
            self.forwarder.del_routes(removed)
        if added:
            self.forwarder.set_routes(added)

    # ---- the link --------------------------------------------------------------------

    @property
    def _tun_address(self) -> IPv4Address:
        return self.keeper.lease.subnet.network_address

    def _link(self, name: str) -> LinkState:
        return LinkState(
            name=name,
            address=IPv4Interface((self._tun_address, 32)),  # U4
            mtu=self._plan.mtu,
            routes=(self._plan.network.network,),
        )

    async def configure(self, tun: TunDevice) -> None:
        """Give the TUN its address, MTU and route (U4). Raises OSError."""
        await self._netlink.reconcile(self._link(tun.name))

    def forward(self, tun: TunDevice) -> None:
        """Start forwarding; the TUN is the forwarder's from here on. Raises OSError,
        and then it is still the caller's."""
        self.forwarder.start(
            tun, self._plan.mtu, self._tun_address, self._on_pump_error
        )
        self.tun_name = tun.name

    def _on_pump_error(self, error: OSError) -> None:
        log.warning("a pump has ended: error=%s", error)
        self._pump_ended.set()

    async def _reconcile(self) -> None:
        """Bring the link back to what it should be, whoever changed it."""
        pause = RECONCILE
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._pump_ended.wait()
            try:
                if self._pump_ended.is_set() or self.tun_name is None:
                    await self._reopen()
                else:
                    await self._repair(self.tun_name)
                self.error, pause = None, RECONCILE
            except OSError as error:
                why = one_line(error)
                if why != self.error:
                    log.error("the link cannot be repaired: error=%s", why)
                self.error = why
                pause = REOPEN_RETRY

    async def _repair(self, name: str) -> None:
        try:
            repairs = await self._netlink.reconcile(self._link(name))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            await self._reopen()
            return
        for repair in repairs:
            self.repairs += 1
            log.warning("repaired: what=%r tun=%s", repair, name)

    async def _reopen(self) -> None:
        """A new TUN in place of the lost one; the routes go on as they are."""
        self.forwarder.stop()
        self.tun_name = None
        self._pump_ended.clear()
        with ExitStack() as until_forwarding:
            tun = self.forwarder.open_tun()
            until_forwarding.callback(tun.close)
            await self.configure(tun)
            self.forward(tun)
            until_forwarding.pop_all()
        self.repairs += 1
        log.warning("repaired: what='the TUN was lost' tun=%s", tun.name)


class _TaskGroup(asyncio.TaskGroup):
    """A task group whose first error comes out as itself, not in a group."""

    async def __aexit__(self, *args: Any) -> None:
        try:
            await super().__aexit__(*args)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
