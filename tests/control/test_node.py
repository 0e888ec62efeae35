"""A node that follows many leases: what its carrier and its log are told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from typing import cast

import pytest

from flannelette.control.backends.backend import Routes, Subnet
from flannelette.control.backends.udp import UdpBackend
from flannelette.control.carrier import Carrier
from flannelette.control.interface import External
from flannelette.control.keeper import LeaseKeeper
from flannelette.control.lease import Added, Event, Lease, LeaseAttrs, Removed, Snapshot
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.node import EACH, Node
from flannelette.control.plan import Plan
from flannelette.control.store import Store

OURS = IPv4Address("192.0.2.1")
EXTERNAL = External("eth0", 2, 1500, OURS, OURS)
CONFIG = NetworkConfig.parse(b'{"Network": "10.0.0.0/8"}')
PLAN = Plan(EXTERNAL, CONFIG, UdpBackend())
OWN = Lease(IPv4Network("10.0.1.0/24"), LeaseAttrs(OURS), permanent=True)


def lease(number: int, public: int = 1 << 24) -> Lease:
    subnet = IPv4Network((10 << 24 | (number + 256) << 8, 24))
    return Lease(subnet, LeaseAttrs(IPv4Address(public + number)))


class Told:
    """A carrier that only listens."""

    def __init__(self) -> None:
        self.due = asyncio.Event()
        self.calls: list[tuple[list[Subnet], Routes]] = []

    def apply(self, removed: Iterable[Subnet], added: Routes) -> None:
        self.calls.append((list(removed), dict(added)))


class Script:
    """A store whose watch gives bursts of events, the next one when it is asked to."""

    def __init__(self, *bursts: list[Event]) -> None:
        self._bursts = bursts
        self.go_on = asyncio.Event()

    async def watch(self) -> AsyncGenerator[Event, None]:
        for burst in self._bursts:
            for event in burst:
                yield event
            await self.go_on.wait()
            self.go_on.clear()
        await asyncio.Event().wait()


async def follow(*bursts: list[Event]) -> Told:
    """What a carrier has been told when all is over."""
    store, told = Script(*bursts), Told()
    keeper = LeaseKeeper(cast(Store, store), OWN, 3600)
    node = Node(PLAN, cast(Store, store), keeper, cast(Carrier, told))
    living = asyncio.create_task(node.live())
    async with asyncio.timeout(10):
        for number in range(1, len(bursts) + 1):
            while len(told.calls) < number and not living.done():  # noqa: ASYNC110 (nothing to wait on)
                await asyncio.sleep(0.001)
            store.go_on.set()
    living.cancel()
    with suppress(asyncio.CancelledError):
        await living
    return told


@pytest.fixture(autouse=True)
def no_repairs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def reconcile(_: Node) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Node, "_reconcile", reconcile)


async def test_what_comes_together_is_one_change() -> None:
    all_ = [lease(n) for n in range(1000)]
    told = await follow(
        [Snapshot((OWN, *all_))],
        [Removed(it.subnet) for it in all_],
        [Added(lease(1)), Added(lease(2)), Removed(lease(1).subnet)],
        [Added(lease(2, 2 << 24))],
    )
    changes = [(len(removed), len(added)) for removed, added in told.calls]
    assert changes == [(0, 1000), (1000, 0), (1, 1), (0, 1)]
    [(subnet, route)] = told.calls[-1][1].items()
    assert (subnet, route.peer) == (lease(2).subnet, IPv4Address((2 << 24) + 2))


async def test_a_snapshot_without_peers_is_told() -> None:
    told = await follow([Snapshot((OWN,))])
    assert told.calls == [([], {})]


async def test_what_the_carrier_refuses_ends_the_node() -> None:
    class Refusing(Told):
        def apply(self, removed: Iterable[Subnet], added: Routes) -> None:
            raise OSError("no memory")

    store = Script([Snapshot((OWN, lease(1)))])
    keeper = LeaseKeeper(cast(Store, store), OWN, 3600)
    node = Node(PLAN, cast(Store, store), keeper, cast(Carrier, Refusing()))
    with pytest.raises(OSError, match="no memory"):
        await asyncio.wait_for(node.live(), 10)


@pytest.mark.parametrize("number", [3, EACH, EACH + 1])
async def test_the_log_tells_of_each_or_how_many(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    leases = tuple(lease(n) for n in range(number))
    outside = tuple(
        Lease(IPv4Network((11 << 24 | n << 8, 24)), it.attrs)
        for n, it in enumerate(leases)
    )
    await follow([Snapshot((OWN, *leases))], [Removed(it.subnet) for it in leases])
    said = [record.getMessage() for record in caplog.records]
    if number > EACH:
        assert said == [
            f"routes: set={number} removed=0",
            f"routes: set=0 removed={number}",
        ]
    else:
        assert said[0] == "route: subnet=10.1.0.0/24 peer=1.0.0.0"
        assert said[number] == "route removed: subnet=10.1.0.0/24"
        assert len(said) == 2 * number
    caplog.clear()
    await follow([Snapshot((OWN, *outside))])
    said = [record.getMessage() for record in caplog.records]
    if number > EACH:
        assert said == [f"ignored leases: count={number} reason='outside the network'"]
    else:
        assert len(said) == number
        assert said[0] == (
            "ignored a lease: subnet=11.0.0.0/24 reason='outside the network'"
        )
