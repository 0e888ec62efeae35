"""Carriers by the kernel, of a node with one peer, and a kernel that only remembers."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, NamedTuple, cast

from flannelette.control.backends import choice
from flannelette.control.carriers import open_carrier
from flannelette.control.config import parse
from flannelette.control.handover.handover import Handover
from flannelette.control.interface import External
from flannelette.control.kernelcarrier import KernelCarrier
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.plan import Plan
from flannelette.control.systemd.notify import Notifier
from flannelette.tun.link import Netlink
from flannelette.tun.vxlan import VxlanState

MY_DATA = '{"VNI":7,"VtepMAC":"02:00:00:00:00:01"}'
DATA = '{"VNI":7,"VtepMAC":"02:00:00:00:00:02"}'
ME, ME6 = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")
PEER, PEER6 = IPv4Address("192.0.2.2"), IPv6Address("2001:db8::2")
ELSEWHERE = IPv4Address("192.0.2.3")
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
    """The lease of the node with these public IPs."""
    number = int(public) & 0xFF
    of_vxlan = data if kind == "vxlan" else None
    return Lease(
        IPv4Network(f"10.5.{number}.0/24"),
        LeaseAttrs(public, six, kind, of_vxlan, of_vxlan),
        IPv6Network(f"fd00:5:0:{number}::/64"),
    )


VXLAN = ', "Datapath": "kernel", "VNI": 7'
DIRECT = VXLAN + ', "DirectRouting": true'
"""Members of a backend."""


def make(
    kernel: Kernel | Netlink, kind: str, members: str = "", index: int = 2
) -> tuple[KernelCarrier, Plan]:
    """In dual stack, by a backend of that kind; `index` is the interface's."""
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
