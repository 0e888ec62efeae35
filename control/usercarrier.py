"""We carry the packets: a TUN on the inside, UDP on the outside, the pumps between."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface

from flannelette.control.backends.backend import Backend, Routes, Subnet
from flannelette.control.backends.vxlan import VxlanBackend, vtep_mac
from flannelette.control.config import Config
from flannelette.control.directroutes import DirectRoutes
from flannelette.control.errors import one_line
from flannelette.control.forwarders import open_forwarder, wishes
from flannelette.control.handover.adopted import Adopted
from flannelette.control.handover.document import Opened
from flannelette.control.handover.handover import Handover
from flannelette.control.lease import Lease
from flannelette.control.plan import Plan
from flannelette.dataplane.forwarder import Endpoint, Forwarder, Route, Vxlan
from flannelette.dataplane.underlay import FLOWS, Underlay, open_underlay
from flannelette.tun.device import TunDevice
from flannelette.tun.link import LinkState, Netlink

log = logging.getLogger(__name__)


def open_user_carrier(
    config: Config, plan: Plan, netlink: Netlink, handover: Handover
) -> UserCarrier:
    """With its underlay sockets bound and its TUN open, or those of the daemon before.
    Raises OSError."""
    opened = _to_open(config, plan)
    adopted = handover.take(opened)
    if adopted is not None:
        forwarder = adopted.forwarder
        return UserCarrier(plan, forwarder, netlink, opened, handover, adopted)
    forwarder = open_forwarder(config, _open_underlay(opened, plan.backend))
    with ExitStack() as undo:
        carrier = UserCarrier(plan, forwarder, netlink, opened, handover)
        undo.callback(carrier.close)
        carrier.open_tun()
        undo.pop_all()
    return carrier


def _to_open(config: Config, plan: Plan) -> Opened:
    backend, external = plan.backend, plan.external
    assert backend.port is not None
    vxlan = isinstance(backend, VxlanBackend)
    return Opened(
        address=external.address,
        port=backend.port,
        address6=external.address6 if vxlan and plan.dual else None,
        queues=config.queues,
        flows=FLOWS if vxlan else 0,
        offload=wishes(config),
    )


def _open_underlay(opened: Opened, backend: Backend) -> Underlay:
    """Raises OSError."""
    try:
        return open_underlay(
            opened.address,
            opened.port,
            opened.queues,
            opened.address6,
            opened.flows,
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            error.add_note(_who_may_have_it(backend))
        raise


def _who_may_have_it(backend: Backend) -> str:
    """The port."""
    if not isinstance(backend, VxlanBackend):
        return "another daemon may have it, such as flanneld: stop that first"
    there = {name for _, name in socket.if_nameindex()}
    for device in (backend.device, backend.device6):  # W11
        if device in there:
            return (
                f"the kernel's device {device} may have it, which flanneld leaves "
                f"behind: stop that, then `ip link delete {device}`"
            )
    return "another program or device has it: stop that first"


class UserCarrier:
    """A Carrier (carrier.py) with a Forwarder; it replaces a TUN that is lost."""

    def __init__(
        self,
        plan: Plan,
        forwarder: Forwarder,
        netlink: Netlink,
        opened: Opened,
        handover: Handover,
        adopted: Adopted | None = None,
    ) -> None:
        """The forwarder is the carrier's from here on; `opened` is what its descriptors
        are for. `adopted`: it forwards already."""
        self.forwarder = forwarder
        self.due = asyncio.Event()
        self.device: str | None = None
        self._plan = plan
        self._netlink = netlink
        self._opened = opened
        self._handover = handover
        self._adopted = adopted
        self._lease: Lease | None = None
        self._tun: TunDevice | None = None
        """While it is not the forwarder's."""
        self._pump_ended = False
        self._said = False
        """That flows may change their queue."""
        backend = plan.backend
        wanted = isinstance(backend, VxlanBackend) and backend.direct_routing
        # Also with udp: routes that host-gw has left would go before ours.
        self._direct = DirectRoutes(netlink, plan, wanted)
        self._heard = False
        """Has the store told who the peers are?"""

    @property
    def routes(self) -> list[Route]:
        return self.forwarder.routes

    @property
    def direct(self) -> Collection[Subnet]:
        return self._direct.subnets

    def apply(self, removed: Iterable[Subnet], added: Routes) -> None:
        # One call for all: a node that joins learns of every peer at once.
        if not self._heard:  # and what the daemon before has left was confirmed, or not
            left = (route.subnet for route in self.forwarder.routes)
            removed = [*removed, *(subnet for subnet in left if subnet not in added)]
        if gone := [Route.to(subnet) for subnet in removed]:
            self.forwarder.del_routes(gone)
        if added:
            self.forwarder.set_routes(added.values())
        if self._direct.wanted or not self._heard:
            self.due.set()
        self._heard = True
        self._handover.changed()

    def open_tun(self) -> None:
        """Raises OSError."""
        self._tun = tun = self.forwarder.open_tun()
        if tun.unsteered is not None and not self._said:
            why = one_line(tun.unsteered)
            log.warning("flows may change their queue: error=%s", why)
            self._said = True

    async def start(self, lease: Lease) -> None:
        self._lease = lease
        adopted, self._adopted = self._adopted, None
        if adopted is None:
            await self._forward()
        elif adopted.endpoint == self._endpoint(lease):
            await self._go_on(adopted, lease)
        else:
            log.warning("the lease is another than before: subnet=%s", lease.subnets)
            await self._reopen()

    async def _go_on(self, adopted: Adopted, lease: Lease) -> None:
        """With the TUN that forwards. Raises OSError."""
        self.device = adopted.device
        try:
            await self._netlink.reconcile(self._link(adopted.device, lease))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            await self._reopen()
        else:
            adopted.listen(self._on_pump_error)

    async def _forward(self) -> None:
        """Give the TUN its addresses, MTU and routes (U4), and forward. Raises OSError,
        and then the TUN is gone."""
        assert self._lease is not None
        tun, self._tun = self._tun, None
        assert tun is not None
        with ExitStack() as until_forwarding:
            until_forwarding.callback(tun.close)
            await self._netlink.reconcile(self._link(tun.name, self._lease))
            endpoint = self._endpoint(self._lease)
            self.forwarder.start(tun, endpoint, self._on_pump_error)
            until_forwarding.pop_all()
        self.device = tun.name
        self._handover.keep(self.forwarder, self._opened, endpoint)

    def _endpoint(self, lease: Lease) -> Endpoint:
        plan, backend = self._plan, self._plan.backend
        vxlan: Vxlan | None = None
        if isinstance(backend, VxlanBackend):
            # Not what we asked for: a store may have its own idea of it.
            vxlan = Vxlan(backend.vni, vtep_mac(lease.attrs.backend_data))
        base = lease.subnet.network_address
        if lease.subnet6 is None or not plan.dual:
            return Endpoint(base, plan.mtu, vxlan=vxlan)
        base6 = lease.subnet6.network_address
        return Endpoint(base, plan.mtu, base6, plan.mtu6, vxlan)

    def _on_pump_error(self, error: OSError) -> None:
        log.warning("a pump has ended: error=%s", error)
        self._pump_ended = True
        self.due.set()

    def _link(self, name: str, lease: Lease) -> LinkState:
        """Its own addresses are its subnets' bases (U4, W6)."""
        plan, network = self._plan, self._plan.network
        state = LinkState(
            name=name,
            address=IPv4Interface((lease.subnet.network_address, 32)),
            mtu=plan.mtu,
            routes=(network.network,),
        )
        if network.network6 is None or lease.subnet6 is None:
            return state
        return replace(
            state,
            address6=IPv6Interface((lease.subnet6.network_address, 128)),
            routes6=(network.network6,),
            mtu6=plan.mtu6,
        )

    async def reconcile(self) -> list[str]:
        repairs = await self._repair()
        if self._heard:
            await self._direct.find(self.routes)
            repairs += await self._direct.reconcile()
        return repairs

    async def _repair(self) -> list[str]:
        if self._pump_ended or self.device is None or self._lease is None:
            return await self._reopen()
        try:
            return await self._netlink.reconcile(self._link(self.device, self._lease))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return await self._reopen()

    async def _reopen(self) -> list[str]:
        """A new TUN in place of the lost one; the routes go on as they are."""
        self.forwarder.stop()
        self._handover.lost()
        self.device = None
        self._pump_ended = False
        self.open_tun()
        await self._forward()
        return ["the TUN was lost"]

    def close(self) -> None:
        tun, self._tun = self._tun, None
        if tun is not None:
            tun.close()
        self._handover.leave()
        self.forwarder.close()
