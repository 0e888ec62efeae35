"""The kernel carries the packets: it is told how, and told again what it has lost.

What it should be told is a function of our lease and of the peers' routes; it is
compared with what the kernel has at every change and every few seconds (node.py).
flanneld looks never again at VXLAN's devices, neighbours and routes (V16, V19).

Comparing takes seconds where there are thousands of peers. So the kernel is told of a
change at once, without a look at what else it has, and looked at in between.

The kernel goes on when we end (C8). So that a restart does not interrupt it, what it
already has stays as it is until the store has told who the peers are.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface
from typing import ClassVar

from flannelette.control import mac
from flannelette.control.backends.backend import Routes, Subnet
from flannelette.control.backends.vxlan import VxlanBackend, vtep_mac
from flannelette.control.directroutes import DirectRoutes
from flannelette.control.lease import Lease
from flannelette.control.plan import Plan
from flannelette.dataplane.forwarder import Route
from flannelette.tun.link import Netlink
from flannelette.tun.repairs import made_before, telling
from flannelette.tun.vxlan import VxlanState
from flannelette.tun.vxlanpeers import VxlanPeer

log = logging.getLogger(__name__)

LOOK = 10.0
"""Seconds after which all is compared, however much changes."""

Changes = dict[Subnet, tuple[Route | None, Route | None]]
"""How each subnet was reached before, and how it is now."""
_BY_CHANGES = object()
"""The kernel was told of all there is, the last of it by changes."""


class KernelCarrier:
    """What carriers (carrier.py) by the kernel have in common."""

    forwarder: ClassVar[None] = None
    device: str | None = None

    def __init__(self, plan: Plan, netlink: Netlink) -> None:
        self.due = asyncio.Event()
        self._plan = plan
        self._netlink = netlink
        self._lease: Lease | None = None
        self._routes: Routes = {}
        self._heard = False
        """Has the store told who the peers are?"""
        self._told: object = None
        """What the kernel was told last."""
        self._before: dict[Subnet, Route | None] = {}
        """How those subnets were reached that have changed since it was told."""
        self._looked: float | None = None
        """When all was compared; None: it must be."""

    @property
    def routes(self) -> list[Route]:
        return sorted(
            self._routes.values(), key=lambda it: (it.version, it.prefix, it.length)
        )

    @property
    def direct(self) -> Collection[Subnet]:
        return ()

    def apply(self, removed: Iterable[Subnet], added: Routes) -> None:
        removed = list(removed)
        for subnet in (*removed, *added):
            self._before.setdefault(subnet, self._routes.get(subnet))
        for subnet in removed:
            self._routes.pop(subnet, None)
        self._routes |= added
        self._heard = True
        self.due.set()

    async def start(self, lease: Lease) -> None:
        self._lease = lease
        there = {interface.name for interface in await self._netlink.interfaces()}
        if self.device is not None and self.device not in there:
            await self._program(lease)

    async def reconcile(self) -> list[str]:
        if self._lease is None or not self._heard:
            return []
        changes, self._before = self._changes(), {}
        looked, self._looked = self._looked, None  # until it is known to be right
        now = time.monotonic()
        if changes and looked is not None and now < looked + LOOK:
            with suppress(OSError):  # then all is compared
                await self._change(changes)
                self._looked, self._told = looked, _BY_CHANGES
                return []
        if changes:
            self._told = None
        try:
            repairs = await self._program(self._lease)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENETUNREACH):
                self._find_interface()
            raise
        self._looked = now
        return repairs

    def _find_interface(self) -> None:
        """For the next try: when it was made anew, as by a driver that is loaded again,
        the external interface has another index."""
        external = self._plan.external
        with suppress(OSError):  # it is away
            index = socket.if_nametoindex(external.name)
            self._plan = replace(self._plan, external=replace(external, index=index))

    def _changes(self) -> Changes:
        pairs = {it: (was, self._routes.get(it)) for it, was in self._before.items()}
        return {it: (was, now) for it, (was, now) in pairs.items() if was != now}

    async def _change(self, changes: Changes) -> None:
        """Tell the kernel of these alone. Raises OSError when that is not enough."""
        raise NotImplementedError

    async def _program(self, lease: Lease) -> list[str]:
        """Tell the kernel what it does not know; names what it had lost. Raises
        OSError."""
        raise NotImplementedError

    def _lost(self, desired: object, steps: list[str]) -> list[str]:
        """Of what is told for the first time, nothing was lost."""
        if self._told in (desired, _BY_CHANGES):
            return steps
        log.debug("the kernel was told: steps=%r", steps)
        return []

    def close(self) -> None:
        """Everything stays (C8)."""


class HostGwCarrier(KernelCarrier):
    """Routes to the peers' subnets by their public IPs (7.1)."""

    async def _change(self, changes: Changes) -> None:
        gone = {it: was.peer for it, (was, _) in changes.items() if was}
        new = {it: now.peer for it, (_, now) in changes.items() if now}
        index = self._plan.external.index
        await self._netlink.change_peer_routes(gone, new, index)

    async def _program(self, lease: Lease) -> list[str]:
        gateways = {subnet: route.peer for subnet, route in self._routes.items()}
        plan = self._plan
        steps = await self._netlink.reconcile_peer_routes(
            gateways, plan.external.index, plan.network.networks
        )
        repairs = self._lost(gateways, steps)
        self._told = gateways
        return repairs


class VxlanCarrier(KernelCarrier):
    """The kernel's own VXLAN: flannel.<VNI>, in dual stack flannel-v6.<VNI> too."""

    def __init__(self, plan: Plan, backend: VxlanBackend, netlink: Netlink) -> None:
        super().__init__(plan, netlink)
        self.device = backend.device
        self._backend = backend
        self._direct = DirectRoutes(netlink, plan, backend.direct_routing)

    @property
    def direct(self) -> Collection[Subnet]:
        return self._direct.subnets

    def _find_interface(self) -> None:
        super()._find_interface()
        self._direct.use_interface(self._plan.external.index)

    async def _change(self, changes: Changes) -> None:
        backend = self._backend
        if backend.direct_routing:
            raise OSError(errno.EOPNOTSUPP, "who is direct has to be found out")
        for version, name in ((4, backend.device), (6, backend.device6)):
            pairs = [
                (it, pair) for it, pair in changes.items() if it.version == version
            ]
            gone = [_vxlan_peer(it, was) for it, (was, _) in pairs if was]
            new = [_vxlan_peer(it, now) for it, (_, now) in pairs if now]
            if pairs:
                new += self._sharing(version, dict(pairs))
                await self._netlink.change_vxlan(name, gone, new)

    def _sharing(self, version: int, changes: Changes) -> list[VxlanPeer]:
        """Unchanged peers that share a MAC or a base with one that goes, for what is
        removed with that one is theirs, too. A node that comes back with another public
        IP, and the MAC that it remembers, has two leases until the old one expires."""
        macs = {was.mac for was, _ in changes.values() if was}
        bases = {it.network_address for it, (was, _) in changes.items() if was}
        return [
            _vxlan_peer(subnet, route)
            for subnet, route in self._routes.items()
            if subnet.version == version
            and (route.mac in macs or subnet.network_address in bases)
            and subnet not in changes
        ]

    async def _program(self, lease: Lease) -> list[str]:
        await self._direct.find(self.routes)
        # First: while a subnet is routed elsewhere the kernel refuses its IPv6 route.
        direct = await self._direct.reconcile()
        states = self._states(lease)
        steps: list[str] = []
        errors: list[OSError] = []
        for state in states:
            try:
                steps += await self._netlink.reconcile_vxlan(state)
            except OSError as error:  # does not stop the other IP version
                steps += made_before(error)
                errors.append(error)
        repairs = [*self._lost(states, steps), *direct]
        if errors:
            with telling(repairs):
                raise errors[0]
        self._told = states
        return repairs

    def _states(self, lease: Lease) -> list[VxlanState]:
        """The device of each IP version (V5, V8, V10)."""
        plan, backend = self._plan, self._backend
        common = VxlanState(
            name=backend.device,
            vni=backend.vni,
            port=backend.port,
            lower=plan.external.index,
            # Not the public IP: where that is a translation's, it is not ours (V5).
            local=plan.external.address,
            mac=mac.show(vtep_mac(lease.attrs.backend_data)),
            mtu=plan.mtu,
            address=IPv4Interface(lease.subnet.network_address),
            gbp=backend.gbp,
            learning=backend.learning,
            peers=self._peers(4),
        )
        if plan.external.address6 is None or lease.subnet6 is None:
            return [common]
        six = replace(
            common,
            name=backend.device6,
            local=plan.external.address6,
            mtu=plan.mtu6,
            address=IPv6Interface(lease.subnet6.network_address),
            peers=self._peers(6),
        )
        return [common, six]

    def _peers(self, version: int) -> tuple[VxlanPeer, ...]:
        """V12, V13; those reached directly need no VXLAN (V11)."""
        return tuple(
            _vxlan_peer(subnet, route)
            for subnet, route in self._routes.items()
            if subnet.version == version and subnet not in self._direct.subnets
        )


def _vxlan_peer(subnet: Subnet, route: Route) -> VxlanPeer:
    return VxlanPeer(subnet, mac.show(route.mac), route.peer)
