"""The kernel carries: what it is told follows from our lease and the peers' routes."""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any, NamedTuple, cast

import pytest

from flannelette.control import directroutes
from flannelette.control.backends import choice
from flannelette.control.backends.backend import Routes
from flannelette.control.carriers import open_carrier
from flannelette.control.config import parse
from flannelette.control.handover.handover import Handover
from flannelette.control.interface import External
from flannelette.control.kernelcarrier import LOOK, KernelCarrier
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.plan import Plan
from flannelette.control.systemd.notify import Notifier
from flannelette.dataplane.forwarder import Route
from flannelette.tun.link import Netlink
from flannelette.tun.vxlan import VxlanState
from flannelette.tun.vxlanpeers import VxlanPeer
from tests.helpers.freshnet import in_fresh_net, ip, shown
from tests.helpers.ns import needs_namespaces

MY_DATA = '{"VNI":7,"VtepMAC":"02:00:00:00:00:01"}'
DATA = '{"VNI":7,"VtepMAC":"02:00:00:00:00:02"}'
ME, ME6 = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")
PEER, PEER6 = IPv4Address("192.0.2.2"), IPv6Address("2001:db8::2")
SUBNET, SUBNET6 = IPv4Network("10.5.2.0/24"), IPv6Network("fd00:5:0:2::/64")


OVERLAY = IPv4Network("10.5.0.0/16"), IPv6Network("fd00:5::/48")


class Named(NamedTuple):
    name: str


class Kernel:
    """Remembers what it is told; what it says it repaired is in `steps`."""

    def __init__(self) -> None:
        self.there: list[Named] = []
        self.states: list[VxlanState] = []
        self.gateways: list[Mapping[Any, Any]] = []
        self.changes: list[Any] = []
        self.steps: list[str] = []
        self.near: set[Any] = set()
        self.asked = 0
        self.fault: OSError | None = None
        self.spared: set[str] = set()

    async def interfaces(self) -> list[Named]:
        return self.there

    async def on_link(self, address: Any) -> int | None:
        self.asked += 1
        return 2 if address in self.near else None

    async def reconcile_vxlan(self, state: VxlanState) -> list[str]:
        if self.fault and state.name not in self.spared:
            raise self.fault
        self.states.append(state)
        return self.steps

    async def change_vxlan(self, name: str, gone: object, new: object) -> None:
        if self.fault:
            raise self.fault
        self.changes.append((name, gone, new))

    async def change_peer_routes(self, gone: object, new: object, index: int) -> None:
        assert index == 2
        self.changes.append((gone, new))

    async def reconcile_peer_routes(
        self, desired: Mapping[Any, Any], index: int, overlay: object
    ) -> list[str]:
        assert index == 2
        assert overlay == OVERLAY
        self.gateways.append(dict(desired))
        return self.steps


def lease(kind: str, public: IPv4Address, six: IPv6Address, data: str) -> Lease:
    number = int(public) & 0xFF
    of_vxlan = data if kind == "vxlan" else None
    return Lease(
        IPv4Network(f"10.5.{number}.0/24"),
        LeaseAttrs(public, six, kind, of_vxlan, of_vxlan),
        IPv6Network(f"fd00:5:0:{number}::/64"),
    )


def make(
    kernel: Kernel | Netlink, kind: str, members: str = "", index: int = 2
) -> tuple[KernelCarrier, Plan]:
    network = NetworkConfig.parse(
        '{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48",'
        f'"Backend": {{"Type": "{kind}"{members}}}}}'
    )
    external = External("eth0", index, 1500, ME, ME, ME6, ME6)
    plan = Plan(external, network, choice.from_config(network))
    handover = Handover(Notifier())
    carrier = open_carrier(parse([], {}), plan, cast(Netlink, kernel), handover)
    assert isinstance(carrier, KernelCarrier)
    return carrier, plan


VXLAN = ', "Datapath": "kernel", "VNI": 7'
DIRECT = VXLAN + ', "DirectRouting": true'


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


@needs_namespaces
def test_a_peer_that_is_direct_no_more_is_a_vxlan_peer() -> None:
    """On the real kernel, which refuses an IPv6 route to a gateway that is routed
    elsewhere: as after a restart without DirectRouting."""

    index = 7  # namespaces may be born with some

    async def body() -> None:
        ip(
            f"link add name eth0 index {index} type veth peer name wire0",
            "link set eth0 up",
            "link set wire0 up",
            f"address add {ME}/24 dev eth0",
            f"address add {ME6}/64 dev eth0 nodad",
        )
        netlink = Netlink()
        try:
            for members, device in ((DIRECT, "eth0"), (VXLAN, "flannel{}.7")):
                carrier, plan = make(netlink, "vxlan", members, index)
                await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
                peer = lease("vxlan", PEER, PEER6, DATA)
                carrier.apply([], plan.backend.routes(peer))
                await carrier.reconcile()
                for version, subnet in (("", SUBNET), ("-v6", SUBNET6)):
                    routes = shown(f"-{subnet.version} route show {subnet}")
                    assert [it["dev"] for it in routes] == [device.format(version)]
        finally:
            await netlink.close()

    in_fresh_net(body)


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


ELSEWHERE = IPv4Address("192.0.2.3")
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


@needs_namespaces
def test_what_a_lease_leaves_that_another_one_needs_stays() -> None:
    """A node that has come back with another public IP: its old lease expires. One
    that has come back with a smaller subnet has the same base."""
    index, elsewhere = 7, IPv4Network("10.5.9.0/24")
    smaller = IPv4Network("10.5.2.0/25")

    async def body() -> None:
        ip(
            f"link add name eth0 index {index} type veth peer name wire0",
            "link set eth0 up",
            "link set wire0 up",
            f"address add {ME}/24 dev eth0",
            f"address add {ME6}/64 dev eth0 nodad",
        )
        netlink = Netlink()
        try:
            carrier, plan = make(netlink, "vxlan", VXLAN, index)
            await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
            old = plan.backend.routes(lease("vxlan", PEER, PEER6, DATA))
            mac = old[SUBNET].mac
            new: Routes = {elsewhere: Route.to(elsewhere, ELSEWHERE, 8472, mac)}
            new[smaller] = Route.to(smaller, ELSEWHERE, 8472, mac + 1)
            carrier.apply([], new | old)
            await carrier.reconcile()
            carrier.apply(list(old), {})
            assert await carrier.reconcile() == []
            assert not shown(f"route show {SUBNET}")
            # All is looked at again: nothing was lost.
            assert await carrier.reconcile() == []
        finally:
            await netlink.close()

    in_fresh_net(body)


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
