"""We carry: a TUN or a link that fails is repaired, however often it takes."""

from __future__ import annotations

import asyncio
import errno
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

import pytest

from flannelette.control import node as module
from flannelette.control.backends.udp import UdpBackend
from flannelette.control.handover.document import Opened
from flannelette.control.handover.handover import Handover
from flannelette.control.interface import External
from flannelette.control.keeper import LeaseKeeper
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.node import Node
from flannelette.control.plan import Plan
from flannelette.control.store import Store
from flannelette.control.systemd.notify import Notifier
from flannelette.control.usercarrier import UserCarrier
from flannelette.dataplane.forwarder import Forwarder
from flannelette.tun.device import TunDevice
from flannelette.tun.link import LinkState, Netlink

NETWORK = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
LEASE = Lease(IPv4Network("10.5.1.0/24"), LeaseAttrs(IPv4Address("192.0.2.1")))
ADDRESS = IPv4Address("192.0.2.1")
PLAN = Plan(External("eth0", 2, 1500, ADDRESS, ADDRESS), NETWORK, UdpBackend())


class Links:
    """A kernel that takes what it is told, but for the faults in the list."""

    def __init__(self, *faults: int) -> None:
        self.faults = list(faults)

    async def reconcile(self, desired: LinkState) -> list[str]:
        if self.faults and (fault := self.faults.pop(0)):
            raise OSError(fault, "refused")
        return []

    async def reconcile_peer_routes(self, *_: object) -> list[str]:
        return []


class Pumps:
    """A forwarder whose first starts fail."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.starts = 0
        self.running = False
        self.on_error: Any = None
        self.open: set[Tun] = set()

    def open_tun(self) -> TunDevice:
        return cast(TunDevice, Tun(self.open))

    def start(self, tun: object, *rest: Any) -> None:
        self.starts += 1
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ENOMEM, "no memory")
        self.running, self.on_error = True, rest[-1]

    def stop(self) -> None:
        self.running = False


class Tun:
    name = "flannel0"
    unsteered = None

    def __init__(self, those_open: set[Tun]) -> None:
        self._open = those_open
        self._open.add(self)

    def close(self) -> None:
        self._open.remove(self)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONCILE", 0.01)
    monkeypatch.setattr(module, "RETRY", 0.01)


def make(pumps: Pumps, links: Links) -> tuple[Node, UserCarrier]:
    """A node that has not started to carry."""
    forwarder, netlink = cast(Forwarder, pumps), cast(Netlink, links)
    opened = Opened(ADDRESS, 8285, None, 1, 0, frozenset())
    carrier = UserCarrier(PLAN, forwarder, netlink, opened, Handover(Notifier()))
    carrier.open_tun()
    store = cast(Store, None)
    return Node(PLAN, store, LeaseKeeper(store, LEASE, 3600), carrier), carrier


async def reconciled(node: Node, pumps: Pumps) -> None:
    """Let it reconcile until it forwards and has nothing to complain of."""
    task = asyncio.create_task(node._reconcile())
    async with asyncio.timeout(10):
        while not pumps.running or node.error:  # noqa: ASYNC110 (nothing to wait on)
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_start_that_fails_leaves_no_tun() -> None:
    for pumps, links in ((Pumps(1), Links()), (Pumps(), Links(errno.EEXIST))):
        _, carrier = make(pumps, links)
        with pytest.raises(OSError, match=r"no memory|refused"):
            await carrier.start(LEASE)
        assert not pumps.open
        assert carrier.device is None


async def test_a_restart_that_fails_is_tried_until_it_forwards() -> None:
    pumps = Pumps()
    node, carrier = make(pumps, Links())
    await carrier.start(LEASE)
    pumps.failures, pumps.running = 2, False
    pumps.on_error(OSError(errno.EBADFD, "gone"))
    await reconciled(node, pumps)
    assert pumps.starts == 4
    assert carrier.device == "flannel0"
    assert node.repairs == 1


async def test_a_pump_that_ended_gets_a_new_tun_once() -> None:
    pumps = Pumps()
    node, carrier = make(pumps, Links())
    await carrier.start(LEASE)
    pumps.running = False
    pumps.on_error(OSError(errno.EBADFD, "gone"))
    await reconciled(node, pumps)
    assert (pumps.starts, node.repairs) == (2, 1)


async def test_a_device_that_is_gone_is_made_anew() -> None:
    pumps = Pumps()
    node, carrier = make(pumps, Links(0, errno.ENODEV))
    await carrier.start(LEASE)
    pumps.running = False
    await reconciled(node, pumps)
    assert (pumps.starts, node.repairs) == (2, 1)


async def test_a_link_that_cannot_be_repaired_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pumps = Pumps()
    node, carrier = make(pumps, Links(0, errno.EEXIST, errno.EEXIST, errno.EEXIST))
    await carrier.start(LEASE)
    task = asyncio.create_task(node._reconcile())
    async with asyncio.timeout(10):
        while not node.error:  # noqa: ASYNC110 (nothing to wait on)
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await reconciled(node, pumps)
    assert pumps.starts == 1, "the TUN was not at fault"
    errors = [r for r in caplog.records if r.levelname == "ERROR"]
    assert len(errors) == 1


async def test_cancelling_at_the_moment_of_a_pump_error_is_not_lost() -> None:
    pumps = Pumps()
    for ticks in range(4):
        node, carrier = make(pumps, Links())
        await carrier.start(LEASE)
        task = asyncio.create_task(node._reconcile())
        await asyncio.sleep(0)
        pumps.on_error(OSError(errno.EBADFD, "gone"))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await task
