"""The daemon: one node of the overlay, from its settings to its last packet.

Order of start-up. Above the line everything is read and checked; below it the machine
and the cluster change. Stopping is the same list backwards.
 1 check the subnet file, choose the external interface, look up --healthz-ip
 2 open the store, the operator socket and the health server
 3 wait for the network configuration   4 choose the backend, and what makes rules
 ------------------------------------------------------------------------------------
 5 open the carrier: for us to carry, the underlay socket and the TUN
 6 take a lease     7 carry; make traffic rules; write subnet.env; ready
 8 for as long as we run: follow the leases, keep our own, reconcile (node.py)
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

from flannelette.control import (
    interface,
    remembered,
    report,
    signals,
    subnetfile,
)
from flannelette.control.backends import choice
from flannelette.control.backends.vxlan import VxlanBackend
from flannelette.control.blackhole import open_blackholes
from flannelette.control.carrier import Carrier
from flannelette.control.carriers import open_carrier
from flannelette.control.config import Config
from flannelette.control.errors import NetworkConfigError, StoreUnavailable
from flannelette.control.extensioncarrier import ExtensionCarrier
from flannelette.control.handover import takeover
from flannelette.control.handover.handover import Handover
from flannelette.control.handover.succession import Succession, Successors
from flannelette.control.health.figures import Figures, figures
from flannelette.control.health.lag import Lag
from flannelette.control.health.look import facts
from flannelette.control.health.readiness import Verdict, judge
from flannelette.control.health.server import Address, resolve
from flannelette.control.keeper import LeaseKeeper, insist
from flannelette.control.lease import Lease
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.node import Node
from flannelette.control.observe import watching
from flannelette.control.operator.server import serve
from flannelette.control.plan import Plan
from flannelette.control.rules.keeper import open_rules
from flannelette.control.store import Reloadable, Store
from flannelette.control.stores import open_store
from flannelette.control.systemd.notify import Notifier
from flannelette.control.systemd.reporter import Reporter, State
from flannelette.control.taskgroup import TaskGroup
from flannelette.tun.link import Netlink

log = logging.getLogger(__name__)

CONFIG_RETRY = 1.0
"""Seconds between two tries to read the network configuration (E12)."""


async def run(config: Config, handover: Handover, notifier: Notifier) -> None:
    """Be a node until SIGINT or SIGTERM. A second signal kills; SIGQUIT does so after
    it has shown what every thread was doing (C6).

    Raises ControlError or OSError when it cannot go on."""
    stop = asyncio.Event()
    with signals.ending(stop):
        it = Agent(config, handover, notifier, stop)
        agent = asyncio.create_task(it.run(), name="agent")
        stopped = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait({agent, stopped}, return_when=asyncio.FIRST_COMPLETED)
        it.reporter.stopping()
        stopped.cancel()
        agent.cancel()
        with suppress(asyncio.CancelledError):
            await agent
    log.info("stopped")


@contextmanager
def _in_background(work: Coroutine[Any, Any, None], name: str) -> Iterator[None]:
    """Until the context ends, and perhaps one turn of the loop longer."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()


class Agent:
    """Starts the node, step by step. Everything it opens is on one stack."""

    def __init__(
        self,
        config: Config,
        handover: Handover,
        notifier: Notifier,
        stop: asyncio.Event,
    ) -> None:
        """`stop` is set where it is the agent that wants to end."""
        self._stop = stop
        self.reporter = Reporter(notifier, self._state)
        self._config = config
        self._handover = handover
        self._carrier: Carrier | None = None
        self._started = time.monotonic()
        self._health_at: Address | None = None
        """Where to answer for our health; None: nowhere."""
        self._store: Store | None = None
        self._plan: Plan | None = None
        self._node: Node | None = None
        self._waiting_for: str | None = None
        self._successors = Successors(handover, self._let_go)

    async def run(self) -> None:
        """Start and stay. Raises ControlError or OSError; ends only by cancellation."""
        config = self._config
        subnetfile.check(config.subnet_file)
        async with AsyncExitStack() as stack:
            stack.callback(self._carry_no_more)  # the last thing: until then, forward
            stack.enter_context(_in_background(self.reporter.report(), "report"))
            netlink = Netlink()
            stack.push_async_callback(netlink.close)
            external = await interface.choose(netlink, config)
            if config.healthz_port:
                self._health_at = await resolve(config.healthz_ip)
            store = self._store = open_store(config)
            stack.push_async_callback(store.close)
            stack.enter_context(signals.handled(signal.SIGHUP, self._on_hangup))
            succession = await self._take_place(stack)
            network = await self._network_config(store)
            backend = choice.from_config(network)
            if backend.dual_underlay:
                external = await interface.choose_dual(netlink, config, external)
            plan = self._plan = Plan(external, network, backend)
            rules = await open_rules(config, network)
            # ---- from here on the machine and the cluster change ---------------------
            if succession is not None:
                await succession.complete()
            carrier = open_carrier(config, plan, netlink, self._handover)
            self._carrier = carrier
            self._handover.refuse("the packets are not carried by us now")
            keeper = await self._take_lease(store, plan, carrier)
            await carrier.start(keeper.lease)
            await rules.start(keeper.lease.subnets)
            blackholes = open_blackholes(config, network, netlink)
            await blackholes.start(keeper.lease.subnets)
            node = Node(plan, store, keeper, carrier, rules, blackholes)
            remembered.write(config, network, keeper.lease, plan.smallest_mtu)
            self._node = node
            log.info("ready: subnet=%s device=%s", keeper.lease.subnets, carrier.device)
            announce = self.reporter.announce(node.heard)
            stack.enter_context(_in_background(announce, "announce"))
            await node.live()

    async def _take_place(self, stack: AsyncExitStack) -> Succession | None:
        """Listen now, or in the end, if another daemon is still there. Raises
        HostError, OSError."""
        if (before := self._handover.predecessor) is None:
            await stack.enter_async_context(self._listening())
            self._tell_if_forwarding()
            return None
        listening = partial(self._listening, alone=True)
        path = self._config.operator_socket
        succession = Succession(self._handover, before, path, listening, self._go_on)
        tasks = await stack.enter_async_context(TaskGroup())
        tasks.create_task(succession.run(), name="succession")
        return succession

    @asynccontextmanager
    async def _listening(self, *, alone: bool = False) -> AsyncIterator[None]:
        """To operators, and to those who ask for our health; `alone` as of
        serve(). Raises HostError, OSError."""
        config = self._config
        commands = {"status": self._report}
        streams = {"watch": self._watch}
        talks = {takeover.COMMAND: self._successors.hand_over}
        path = config.operator_socket
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                serve(path, commands, streams, talks, alone=alone)
            )
            if self._health_at is not None:
                from flannelette.control.health import service

                at = self._health_at, config.healthz_port
                health = service.serve(*at, self._verdict, self._figures)
                await stack.enter_async_context(health)
            yield

    def _go_on(self) -> None:
        """The daemon before has ended unasked."""
        self._handover.go_on()
        self._tell_if_forwarding()

    def _tell_if_forwarding(self) -> None:
        """Also while there is no store, pods may start."""
        if self._handover.forwards and self._config.subnet_file.exists():
            self.reporter.ready()

    def _let_go(self, pid: int) -> None:
        """That process takes over."""
        self._carry_no_more()
        self.reporter.succeeded_by(pid)
        self._stop.set()

    def _carry_no_more(self) -> None:
        if self._carrier is not None:
            self._carrier.close()
        self._handover.close()

    async def _network_config(self, store: Store) -> NetworkConfig:
        """Wait until there is a sound one (E12); say once what is wrong."""
        while True:
            try:
                network = NetworkConfig.parse(await store.network_config())
            except (NetworkConfigError, StoreUnavailable) as error:
                if str(error) != self._waiting_for:
                    self._waiting_for = str(error)
                    log.warning("waiting for the network config: error=%s", error)
                await asyncio.sleep(CONFIG_RETRY)
            else:
                self._waiting_for = None
                networks = ", ".join(map(str, network.networks))
                log.info("network config: network=%s", networks)
                return network

    async def _take_lease(
        self, store: Store, plan: Plan, carrier: Carrier
    ) -> LeaseKeeper:
        own = 0
        if isinstance(plan.backend, VxlanBackend):
            own = remembered.own_mac(self._config)
        attrs = plan.backend.attrs(plan.external, own)
        if isinstance(carrier, ExtensionCarrier):
            attrs = await carrier.prepare(attrs)
        previous = remembered.previous_subnets(self._config)

        async def acquire() -> Lease:
            try:
                return await store.acquire(attrs, plan.network, previous)
            except StoreUnavailable as error:
                self._waiting_for = str(error)
                raise

        lease = await insist("take a lease", acquire, lease_held=False)
        log.info("lease: subnet=%s", lease.subnets)
        margin = self._config.subnet_lease_renew_margin * 60.0
        return LeaseKeeper(store, lease, margin)

    def _on_hangup(self) -> None:
        """SIGHUP."""
        self.reporter.reload(self._reload)

    def _reload(self) -> None:
        log.info("reload: flags and the network config need a restart")
        if isinstance(self._store, Reloadable):
            self._store.reload()
        if self._node is not None:
            self._node.carrier.due.set()

    def _watch(self, argument: str, enough: asyncio.Event) -> AsyncGenerator[bytes]:
        return watching.watch_node(self._plan, self._node, argument, enough)

    def _verdict(self) -> Verdict:
        """May pods rely on this node now?"""
        return judge(facts(self._config, self._store, self._node, self._waiting_for))

    def _state(self) -> State:
        """For the service manager."""
        verdict, node = self._verdict(), self._node
        if node is None or self._store is None:
            return State(verdict)
        forwarder = node.carrier.forwarder
        return State(
            verdict,
            str(node.keeper.lease.subnets),
            node.carrier.device,
            len(node.table),
            node.error or self._store.status().error,
            forwarder is None or forwarder.pumping,
        )

    def _figures(self, lag: Lag) -> Figures:
        known = report.summary(self._known())
        return figures(known, self._verdict(), lag, self._node)

    def _report(self) -> dict[str, Any]:
        return report.document(self._known())

    def _known(self) -> report.Known:
        return report.Known(
            self._config,
            time.monotonic() - self._started,
            self._store,
            self._plan,
            self._node,
            self._waiting_for,
            self._handover.adopted,
        )
