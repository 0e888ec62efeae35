"""Peers come, move and go: the kernel is told of the change alone, or of all again."""

from __future__ import annotations

import errno
import time

import pytest

from flannelette.control.kernelcarrier import LOOK, KernelCarrier
from flannelette.dataplane.forwarder import Route
from flannelette.tun.vxlanpeers import VxlanPeer
from tests.helpers.kernelcarriers import (
    DATA,
    DIRECT,
    ELSEWHERE,
    ME,
    ME6,
    MY_DATA,
    PEER,
    PEER6,
    SUBNET,
    SUBNET6,
    VXLAN,
    Kernel,
    lease,
    make,
)


@pytest.mark.parametrize(("kind", "members"), [("vxlan", VXLAN), ("host-gw", "")])
async def test_what_is_new_was_not_repaired(kind: str, members: str) -> None:
    kernel = Kernel()
    carrier, plan = make(kernel, kind, members)
    await carrier.start(lease(kind, ME, ME6, MY_DATA))
    kernel.steps = ["route added"]
    carrier.apply([], plan.backend.routes(lease(kind, PEER, PEER6, DATA)))
    assert await carrier.reconcile() == []
    assert "route added" in await carrier.reconcile()
    carrier.apply([SUBNET], {})
    assert await carrier.reconcile() == []
    assert [route.subnet for route in carrier.routes] == [SUBNET6]


async def vxlan_with_a_peer(members: str = VXLAN) -> tuple[KernelCarrier, Kernel]:
    """Told of everything a moment ago."""
    kernel = Kernel()
    carrier, plan = make(kernel, "vxlan", members)
    await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
    carrier.apply([], plan.backend.routes(lease("vxlan", PEER, PEER6, DATA)))
    await carrier.reconcile()
    kernel.states.clear()
    return carrier, kernel


MAC = "02:00:00:00:00:02"
MOVED = (
    "flannel.7",
    [VxlanPeer(SUBNET, MAC, PEER)],
    [VxlanPeer(SUBNET, MAC, ELSEWHERE)],
)


def move(carrier: KernelCarrier) -> None:
    [route] = [route for route in carrier.routes if route.subnet == SUBNET]
    there = Route.to(SUBNET, ELSEWHERE, route.port, route.mac)
    carrier.apply([], {SUBNET: there})


async def test_of_a_change_the_kernel_is_told_alone() -> None:
    carrier, kernel = await vxlan_with_a_peer()
    move(carrier)
    assert await carrier.reconcile() == []
    carrier.apply([SUBNET6], {})
    assert await carrier.reconcile() == []
    gone6 = [VxlanPeer(SUBNET6, MAC, PEER6)]
    assert kernel.changes == [MOVED, ("flannel-v6.7", gone6, [])]
    assert kernel.states == []
    # Then nothing is new, so all is looked at: what is done there is a repair.
    kernel.steps = ["route added"]
    assert await carrier.reconcile() == 2 * ["route added"]
    assert [len(state.peers) for state in kernel.states] == [1, 0]


async def test_what_changes_and_changes_back_is_no_change() -> None:
    carrier, kernel = await vxlan_with_a_peer()
    carrier.apply([SUBNET], {})
    assert [it.subnet for it in carrier.routes] == [SUBNET6]
    there = Route.to(SUBNET, PEER, 8472, 0x020000000002)
    carrier.apply([], {SUBNET: there})
    await carrier.reconcile()
    assert kernel.changes == []
    assert len(kernel.states) == 2


async def test_all_is_looked_at_in_time_however_much_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    carrier, kernel = await vxlan_with_a_peer()
    kernel.steps = ["route added"]
    now += LOOK - 1
    move(carrier)
    await carrier.reconcile()
    assert (len(kernel.changes), len(kernel.states)) == (1, 0)
    now += 2
    carrier.apply([SUBNET], {})
    assert await carrier.reconcile() == [], "it is new"
    assert (len(kernel.changes), len(kernel.states)) == (1, 2)


async def test_a_change_that_fails_is_a_look_at_all() -> None:
    carrier, kernel = await vxlan_with_a_peer()
    kernel.fault = OSError(errno.ENODEV, "gone")
    move(carrier)
    with pytest.raises(OSError, match="gone"):
        await carrier.reconcile()
    kernel.fault = None
    carrier.apply([SUBNET], {})
    await carrier.reconcile()
    assert (kernel.changes, len(kernel.states)) == ([], 2)


async def test_who_is_direct_is_found_out_by_a_look_at_all() -> None:
    carrier, kernel = await vxlan_with_a_peer(DIRECT)
    move(carrier)
    await carrier.reconcile()
    assert (kernel.changes, len(kernel.states)) == ([], 2)
