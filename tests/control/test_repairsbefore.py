"""Repairs that were made before a failure count, as any do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import cast

import pytest

from flannelette.control.carrier import Carrier
from flannelette.control.keeper import LeaseKeeper
from flannelette.control.lease import Event
from flannelette.control.node import Node
from flannelette.control.store import Store
from flannelette.tun.repairs import made_before, telling
from flannelette.tun.vxlan import VxlanState
from tests.helpers.kernelcarriers import (
    DATA,
    ME,
    ME6,
    MY_DATA,
    PEER,
    PEER6,
    VXLAN,
    Kernel,
    lease,
    make,
)
from tests.helpers.waiting import eventually


class HalfWay(Kernel):
    """It fails for IPv4 when the steps are done; IPv6 is well."""

    failing = False

    async def reconcile_vxlan(self, state: VxlanState) -> list[str]:
        steps = await super().reconcile_vxlan(state)
        if not self.failing or state.local.version == 6:
            return steps
        with telling(steps):
            raise OSError("no room")


async def told(carrier: object) -> Sequence[str]:
    with pytest.raises(OSError, match="no room") as caught:
        await cast(Carrier, carrier).reconcile()
    return made_before(caught.value)


async def test_what_the_kernel_had_lost_is_told_with_the_failure() -> None:
    kernel = HalfWay()
    carrier, plan = make(kernel, "vxlan", VXLAN)
    await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
    peer = plan.backend.routes(lease("vxlan", PEER, PEER6, DATA))
    carrier.apply([], peer)
    kernel.steps, kernel.failing = ["route set"], True
    assert await told(carrier) == [], "it is new, and was not lost"
    kernel.failing = False
    assert await carrier.reconcile() == []
    kernel.failing = True
    for _ in range(2):
        assert await told(carrier) == 2 * ["route set"]
    kernel.steps = []
    assert await told(carrier) == []


class Silent:
    """A store of which nothing is heard."""

    async def watch(self) -> AsyncGenerator[Event, None]:
        await asyncio.Event().wait()
        return
        yield


class Failing:
    device = "flannel.1"

    def __init__(self) -> None:
        self.due = asyncio.Event()
        self.due.set()

    async def reconcile(self) -> list[str]:
        with telling(["neighbour set", "route set"]):
            raise OSError("no room")


async def test_the_node_counts_and_logs_them(caplog: pytest.LogCaptureFixture) -> None:
    _, plan = make(Kernel(), "vxlan", VXLAN)
    store = cast(Store, Silent())
    keeper = LeaseKeeper(store, lease("vxlan", ME, ME6, MY_DATA), 3600)
    node = Node(plan, store, keeper, cast(Carrier, Failing()))
    living = asyncio.create_task(node.live())
    await eventually(lambda: node.carrier_error)
    living.cancel()
    with suppress(asyncio.CancelledError):
        await living
    assert node.repairs >= 2
    assert caplog.messages[:3] == [
        "repaired: what='neighbour set' device=flannel.1",
        "repaired: what='route set' device=flannel.1",
        "cannot be repaired: error=no room",
    ]
