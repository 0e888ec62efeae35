"""What the daemon tells of itself: the document behind `flannelette status`."""

from __future__ import annotations

import time
from dataclasses import asdict
from ipaddress import IPv4Address
from typing import Any

from flannelette.control.backend import TYPE
from flannelette.control.config import Config, version
from flannelette.control.node import Node, Plan
from flannelette.control.store import Store
from flannelette.dataplane.forwarder import (
    NO_COUNTERS,
    NO_OFFLOAD,
    Direction,
    Drop,
    Forwarder,
)


def document(
    config: Config,
    uptime: float,
    store: Store | None,
    plan: Plan | None,
    node: Node | None,
    waiting_for: str | None,
) -> dict[str, Any]:
    """All that an operator may want to know, ready for JSON. What is not known yet is
    null; seconds are floats."""
    return {
        "version": version(),
        "ready": node is not None,
        "uptime": uptime,
        "node": {
            "datapath": config.datapath,
            "driver": config.driver,
            "queues": config.queues,
            "steering": node and node.forwarder.steering,
            "offloads": _offloads(node),
            "tun": node and node.tun_name,
            **_plan(plan),
        },
        "network": plan and str(plan.network.network),
        "lease": node and _lease(node),
        "store": store and asdict(store.status()),
        "routes": _routes(node.forwarder) if node else [],
        "counters": {
            direction.name.lower(): _counters(node, direction)
            for direction in Direction
        },
        "repairs": node.repairs if node else 0,
        "last_error": node.error if node else waiting_for,
    }


def _offloads(node: Node | None) -> list[str]:
    used = node.forwarder.offloads if node else NO_OFFLOAD
    return [str(bit.name).lower() for bit in used]


def _plan(plan: Plan | None) -> dict[str, Any]:
    if plan is None:
        names = ("public_ip", "interface", "address", "mtu", "backend", "port")
        return dict.fromkeys(names)
    return {
        "public_ip": str(plan.external.public_ip),
        "interface": plan.external.name,
        "address": str(plan.external.address),
        "mtu": plan.mtu,
        "backend": TYPE,
        "port": plan.backend.port,
    }


def _lease(node: Node) -> dict[str, Any]:
    lease = node.keeper.lease
    left = None if lease.expires is None else lease.expires - time.time()
    return {"subnet": str(lease.subnet), "expires_in": left}


def _routes(forwarder: Forwarder) -> list[dict[str, str]]:
    return [
        {
            "subnet": f"{IPv4Address(route.prefix)}/{route.length}",
            "peer": f"{IPv4Address(route.address)}:{route.port}",
        }
        for route in forwarder.routes
    ]


def _counters(node: Node | None, direction: Direction) -> dict[str, Any]:
    counters = node.forwarder.counters(direction) if node else NO_COUNTERS
    return {
        "packets": counters.packets,
        "bytes": counters.bytes,
        "answers": counters.answers,
        "answers_limited": counters.answers_limited,
        "drops": {drop.label: counters.drops[drop] for drop in Drop},
    }
