"""What the daemon tells of itself: the document behind `flannelette status`."""

from __future__ import annotations

import socket
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from ipaddress import IPv6Address
from typing import Any

from flannelette.control import mac
from flannelette.control.backends.backend import Subnet
from flannelette.control.backends.vxlan import VxlanBackend, vtep_mac
from flannelette.control.config import Config, version
from flannelette.control.handover.adopted import Adopted
from flannelette.control.health.look import facts
from flannelette.control.health.readiness import NotReady, Ready, judge
from flannelette.control.node import Node
from flannelette.control.plan import Plan
from flannelette.control.store import Store
from flannelette.dataplane.forwarder import (
    NO_COUNTERS,
    NO_OFFLOAD,
    Direction,
    Drop,
    Forwarder,
    Route,
    Stage,
)


@dataclass(frozen=True, slots=True)
class Known:
    """What the daemon knows of itself now; None: there is none yet."""

    config: Config
    uptime: float
    """Seconds."""
    store: Store | None
    plan: Plan | None
    node: Node | None
    waiting_for: str | None
    adopted: Adopted | None
    """What forwards before there is a node."""

    @property
    def forwarder(self) -> Forwarder | None:
        """Ours, if there is one."""
        if self.node is not None:
            return self.node.carrier.forwarder
        return self.adopted.forwarder if self.adopted is not None else None


def document(it: Known) -> dict[str, Any]:
    """All that an operator may want to know, ready for JSON. What is not known yet is
    null; seconds are floats."""
    forwarder, node = it.forwarder, it.node
    routes = node.carrier.routes if node else forwarder.routes if forwarder else []
    told = _routes(routes, node.carrier.direct if node else ())
    return {
        **summary(it),
        "routes": told,
        "ignored": _ignored(node) if node else [],
        "peers": _peers(forwarder, routes, told) if forwarder else [],
    }


def summary(it: Known) -> dict[str, Any]:
    """What of it does not grow with the cluster."""
    forwarder, node, store, plan = it.forwarder, it.node, it.store, it.plan
    verdict = judge(facts(it.config, store, node, it.waiting_for))
    return {
        "version": version(),
        "started": node is not None,
        "ready": isinstance(verdict, Ready),
        "not_ready": verdict.reason if isinstance(verdict, NotReady) else None,
        "uptime": it.uptime,
        "node": _node(it),
        "network": plan and ", ".join(map(str, plan.network.networks)),
        "lease": node and _lease(node),
        "store": store and asdict(store.status()),
        "counters": _both_directions(node, forwarder),
        "sockets": [one._asdict() for one in forwarder.fill()] if forwarder else [],
        "tun_drops": forwarder and forwarder.tun_drops(),
        "repairs": node.repairs if node else 0,
        "last_error": node.error if node else it.waiting_for,
    }


def _node(it: Known) -> dict[str, Any]:
    config, plan, node, forwarder = it.config, it.plan, it.node, it.forwarder
    device = it.adopted.device if it.adopted is not None else None
    used = forwarder.offloads if forwarder else NO_OFFLOAD
    carried_by = plan.backend.carried_by if plan else "us"
    return {
        "datapath": config.datapath if carried_by == "us" else carried_by,
        "driver": config.driver,
        "queues": config.queues,
        "steering": forwarder and forwarder.steering,
        "offloads": [str(bit.name).lower() for bit in used],
        "peer_check": config.peer_check,
        "device": node.carrier.device if node else device,
        **_plan(plan),
        **_vxlan(plan, node),
    }


def _plan(plan: Plan | None) -> dict[str, Any]:
    if plan is None:
        names = ("public_ip", "public_ipv6", "interface", "address", "mtu", "mtu6")
        return dict.fromkeys((*names, "backend", "port"))
    public_ipv6 = plan.external.public_ipv6
    return {
        "public_ip": str(plan.external.public_ip),
        "public_ipv6": public_ipv6 and str(public_ipv6),
        "interface": plan.external.name,
        "address": str(plan.external.address),
        "mtu": plan.mtu,
        "mtu6": plan.mtu6 or None,
        "backend": plan.backend.type,
        "port": plan.backend.port,
    }


def _vxlan(plan: Plan | None, node: Node | None) -> dict[str, Any]:
    if plan is None or not isinstance(plan.backend, VxlanBackend):
        return {"vni": None, "mac": None}
    own = node and vtep_mac(node.keeper.lease.attrs.backend_data)
    return {"vni": plan.backend.vni, "mac": own and mac.show(own)}


def _lease(node: Node) -> dict[str, Any]:
    lease = node.keeper.lease
    return {
        "subnet": str(lease.subnet),
        "subnet6": lease.subnet6 and str(lease.subnet6),
        "expires_in": node.keeper.seconds_left(),
    }


def _routes(
    routes: Iterable[Route], direct: Collection[Subnet]
) -> list[dict[str, Any]]:
    return [
        {
            "subnet": _subnet(route),
            "peer": _peer(route),
            "direct": bool(direct) and route.subnet in direct,
        }
        for route in routes
    ]


def _peer(route: Route) -> str:
    """Its address, and its port if it has one."""
    address = _address(route.address, route.outer)
    if not route.port:
        return address
    return (
        f"[{address}]:{route.port}" if route.outer == 6 else f"{address}:{route.port}"
    )


def _subnet(route: Route) -> str:
    return f"{_address(route.prefix, route.version)}/{route.length}"


def _address(number: int, version: int) -> str:
    """The C library's text of IPv4 takes a tenth of the time that ipaddress's does, and
    there may be ten thousand of them."""
    if version == 4:
        return socket.inet_ntoa(number.to_bytes(4))
    return str(IPv6Address(number))


def _peers(
    forwarder: Forwarder, routes: Iterable[Route], told: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """`told`: what the document says of each route."""
    subnets: dict[tuple[int, int], list[str]] = {}
    for route, one in zip(routes, told, strict=True):
        subnets.setdefault((route.outer, route.address), []).append(one["subnet"])
    now = time.monotonic_ns()
    return [
        {
            "address": _address(one.address, one.outer),
            "subnets": subnets.get((one.outer, one.address), []),
            "tx": {"packets": one.tx_packets, "bytes": one.tx_bytes},
            "rx": {"packets": one.rx_packets, "bytes": one.rx_bytes},
            "idle": (now - one.last_seen) / 1e9 if one.last_seen else None,
        }
        for one in forwarder.peers()
    ]


def _ignored(node: Node) -> list[dict[str, str]]:
    return [
        {"subnet": str(subnets), "reason": reason}
        for subnets, reason in node.table.ignored.items()
    ]


def _both_directions(
    node: Node | None, forwarder: Forwarder | None
) -> dict[str, Any] | None:
    """None where the kernel carries the packets, and counts them."""
    if node is not None and forwarder is None:
        return None
    return {each.name.lower(): _counters(forwarder, each) for each in Direction}


def _counters(forwarder: Forwarder | None, direction: Direction) -> dict[str, Any]:
    counters = forwarder.counters(direction) if forwarder else NO_COUNTERS
    return {
        "packets": counters.packets,
        "bytes": counters.bytes,
        "answers": counters.answers,
        "answers_limited": counters.answers_limited,
        "drops": {drop.label: counters.drops[drop] for drop in Drop},
        "frames": counters.frames,
        "frame_bytes": counters.frame_bytes,
        "tun_calls": counters.tun_calls,
        "messages": counters.messages,
        "message_bytes": counters.message_bytes,
        "wire_calls": counters.wire_calls,
        "pumps": counters.pumps,
        "stages": {stage.name.lower(): counters.stages[stage] for stage in Stage},
        "timed_packets": counters.timed_packets,
    }
