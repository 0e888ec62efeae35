"""The running node: a link or a TUN that fails is repaired, however often it takes."""

from __future__ import annotations

import asyncio
import errno
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

import pytest

from flannelette.control import node as module
from flannelette.control.backend import UdpBackend
from flannelette.control.errors import HostError
from flannelette.control.interface import External
from flannelette.control.keeper import LeaseKeeper
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.node import Node, Plan
from flannelette.control.store import Store
from flannelette.dataplane.forwarder import Forwarder
from flannelette.tun.device import TunDevice
from flannelette.tun.link import LinkState, Netlink

NETWORK = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
LEASE = Lease(IPv4Network("10.5.1.0/24"), LeaseAttrs(IPv4Address("192.0.2.1")))


def plan(mtu: int = 1500) -> Plan:
    address = IPv4Address("192.0.2.1")
    external = External("eth0", 2, mtu, address, address)
    return Plan(external, NETWORK, UdpBackend(8285))


class Links:
    """A kernel that takes what it is told, but for the faults in the list."""

    def __init__(self, *faults: int) -> None:
        self.faults = list(faults)

    async def reconcile(self, desired: LinkState) -> list[str]:
        if self.faults:
            raise OSError(self.faults.pop(0), "refused")
        return []


class Pumps:
    """A forwarder whose first starts fail."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.starts = 0
        self.running = False
        self.on_error: Any = None

    def open_tun(self) -> TunDevice:
        return cast(TunDevice, Closable())

    def start(self, tun: object, mtu: int, address: object, on_error: Any) -> None:
        self.starts += 1
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ENOMEM, "no memory")
        self.running, self.on_error = True, on_error

    def stop(self) -> None:
        self.running = False


class Closable:
    name = "flannel0"

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONCILE", 0.01)
    monkeypatch.setattr(module, "REOPEN_RETRY", 0.01)


def make_node(pumps: Pumps, links: Links) -> Node:
    store = cast(Store, None)
    keeper = LeaseKeeper(store, LEASE, 3600)
    forwarder = cast(Forwarder, pumps)
    return Node(plan(), store, keeper, forwarder, cast(Netlink, links))


async def reconciled(node: Node, pumps: Pumps) -> None:
    """Let it reconcile until it forwards and has nothing to complain of."""
    task = asyncio.create_task(node._reconcile())
    async with asyncio.timeout(10):
        while not pumps.running or node.error:  # noqa: ASYNC110 (nothing to wait on)
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_start_that_fails_is_tried_until_it_forwards() -> None:
    pumps = Pumps(failures=2)
    node = make_node(pumps, Links())
    await reconciled(node, pumps)
    assert pumps.starts == 3
    assert node.tun_name == "flannel0"
    assert node.repairs == 1


async def test_a_pump_that_ended_gets_a_new_tun_once() -> None:
    pumps = Pumps(failures=0)
    node = make_node(pumps, Links())
    node.forward(pumps.open_tun())
    pumps.running = False
    pumps.on_error(OSError(errno.EBADFD, "gone"))
    await reconciled(node, pumps)
    assert (pumps.starts, node.repairs) == (2, 1)


async def test_a_device_that_is_gone_is_made_anew() -> None:
    pumps = Pumps(failures=0)
    node = make_node(pumps, Links(errno.ENODEV))
    node.forward(pumps.open_tun())
    pumps.running = False
    await reconciled(node, pumps)
    assert (pumps.starts, node.repairs) == (2, 1)


async def test_a_link_that_cannot_be_repaired_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pumps = Pumps(failures=0)
    node = make_node(pumps, Links(errno.EEXIST, errno.EEXIST, errno.EEXIST))
    node.forward(pumps.open_tun())
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
    pumps = Pumps(failures=0)
    for ticks in range(4):
        node = make_node(pumps, Links())
        node.forward(pumps.open_tun())
        task = asyncio.create_task(node._reconcile())
        await asyncio.sleep(0)
        pumps.on_error(OSError(errno.EBADFD, "gone"))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await task


def test_an_interface_too_small_is_refused_before_anything_changes() -> None:
    with pytest.raises(HostError, match="eth0: its MTU 90"):
        plan(mtu=90)
    assert plan(mtu=96).mtu == 68


def test_an_interface_larger_than_a_datagram_gives_what_fits() -> None:
    assert plan(mtu=65536).mtu == 65507
