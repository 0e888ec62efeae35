"""The kernel carries: what it is told follows from our lease and the peers' routes."""

from __future__ import annotations

import errno
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

import pytest

from flannelette.control import directroutes
from flannelette.dataplane.forwarder import Route
from flannelette.tun.vxlan import VxlanState
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
    Named,
    lease,
    make,
)


async def test_vxlan_is_told_of_both_devices_and_all_peers() -> None:
    """V5, V8, V10, V12, V13."""
    kernel = Kernel()
    carrier, plan = make(kernel, "vxlan", VXLAN)
    await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
    carrier.apply([], plan.backend.routes(lease("vxlan", PEER, PEER6, DATA)))
    assert carrier.due.is_set()
    kernel.states.clear()
    assert await carrier.reconcile() == []
    mac, own = "02:00:00:00:00:02", "02:00:00:00:00:01"
    assert kernel.states == [
        VxlanState(
            name="flannel.7",
            vni=7,
            port=8472,
            lower=2,
            local=ME,
            mac=own,
            mtu=1450,
            address=IPv4Interface("10.5.1.0/32"),
            peers=(VxlanPeer(SUBNET, mac, PEER),),
        ),
        VxlanState(
            name="flannel-v6.7",
            vni=7,
            port=8472,
            lower=2,
            local=ME6,
            mac=own,
            mtu=1430,
            address=IPv6Interface("fd00:5:0:1::/128"),
            peers=(VxlanPeer(SUBNET6, mac, PEER6),),
        ),
    ]
    assert kernel.gateways == [{}], "none left from when they were direct; looked once"
    await carrier.reconcile()
    assert len(kernel.gateways) == 1


async def test_a_device_that_is_there_waits_for_the_store() -> None:
    """A restart interrupts nothing (C8)."""
    kernel = Kernel()
    kernel.there = [Named("flannel.7")]
    carrier, _ = make(kernel, "vxlan", VXLAN)
    await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
    assert await carrier.reconcile() == []
    assert kernel.states == []
    carrier.apply([], {})
    await carrier.reconcile()
    assert len(kernel.states) == 2


async def test_a_device_that_cannot_be_made_ends_the_start() -> None:
    kernel = Kernel()
    kernel.fault = OSError(errno.EOPNOTSUPP, "no such driver")
    carrier, _ = make(kernel, "vxlan", VXLAN)
    with pytest.raises(OSError, match="no such driver"):
        await carrier.start(lease("vxlan", ME, ME6, MY_DATA))


async def test_the_device_of_one_ip_version_does_not_stop_the_other() -> None:
    """As with one that has no room for its MTU, or a peer it cannot be told of."""
    kernel = Kernel()
    kernel.there = [Named("flannel.7")]
    carrier, _ = make(kernel, "vxlan", VXLAN)
    await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
    carrier.apply([], {})
    kernel.fault, kernel.spared = OSError(errno.EINVAL, "no room"), {"flannel-v6.7"}
    with pytest.raises(OSError, match="no room"):
        await carrier.reconcile()
    assert [state.name for state in kernel.states] == ["flannel-v6.7"]


# ---- direct peers --------------------------------------------------------------------


async def test_direct_peers_are_no_vxlan_peers() -> None:
    """V11; the kernel is not asked again about each of them every time."""
    kernel = Kernel()
    kernel.near = {PEER}
    carrier, plan = make(kernel, "vxlan", DIRECT)
    await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
    carrier.apply([], plan.backend.routes(lease("vxlan", PEER, PEER6, DATA)))
    await carrier.reconcile()
    assert kernel.gateways[-1] == {SUBNET: PEER}
    assert [len(state.peers) for state in kernel.states[-2:]] == [0, 1]
    assert set(carrier.direct) == {SUBNET}
    assert kernel.asked == 2
    await carrier.reconcile()
    assert kernel.asked == 2


async def test_peers_may_change_while_the_kernel_is_asked() -> None:
    kernel = Kernel()
    carrier, plan = make(kernel, "vxlan", DIRECT)
    await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
    carrier.apply([], plan.backend.routes(lease("vxlan", PEER, PEER6, DATA)))

    async def on_link(address: Any) -> None:
        carrier.apply([SUBNET], {})

    kernel.on_link = on_link  # type: ignore[method-assign]
    await carrier.reconcile()
    assert [len(state.peers) for state in kernel.states[-2:]] == [0, 1]


async def test_the_kernel_s_answer_is_forgotten_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directroutes, "MEMORY", 0.0)
    kernel = Kernel()
    carrier, plan = make(kernel, "vxlan", DIRECT)
    await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
    carrier.apply([], plan.backend.routes(lease("vxlan", PEER, PEER6, DATA)))
    await carrier.reconcile()
    kernel.near = {PEER}
    await carrier.reconcile()
    assert kernel.gateways[-1] == {SUBNET: PEER}


# ---- host-gw -------------------------------------------------------------------------


async def test_host_gw_is_told_of_gateways() -> None:
    """7.1."""
    kernel = Kernel()
    carrier, plan = make(kernel, "host-gw")
    await carrier.start(lease("host-gw", ME, ME6, ""))
    assert kernel.gateways == []
    carrier.apply([], plan.backend.routes(lease("host-gw", PEER, PEER6, "")))
    await carrier.reconcile()
    assert kernel.gateways == [{SUBNET: PEER, SUBNET6: PEER6}]
    carrier.apply([SUBNET6], {SUBNET: Route.to(SUBNET, ELSEWHERE)})
    await carrier.reconcile()
    gone = {SUBNET: PEER, SUBNET6: PEER6}
    [(was, now)] = kernel.changes
    assert (was, now) == (gone, {SUBNET: ELSEWHERE})
    assert len(kernel.gateways) == 1
    assert carrier.device is None
