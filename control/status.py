"""`flannelette status`: the daemon's document, for a person to read. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flannelette.control.statusdocument import (
    OUR_PATHS,
    DirectionDocument,
    LeaseDocument,
    NodeDocument,
    StatusDocument,
    StoreDocument,
    parse,
)
from flannelette.control.text import LABEL, duration, wrapped


def render(document: dict[str, Any]) -> str:
    """The document in lines of at most 80 columns, without a newline at the end.

    Raises HostError, as parse() does."""
    status = parse(document)
    ready = "ready" if status["ready"] else "not ready"
    up = duration(status["uptime"])
    lines = wrapped(f"flannelette {status['version']}, {ready}, up {up}", "")
    for label, text in _parts(status):
        lines += wrapped(text, f"{label:{LABEL}}")
    return "\n".join(lines)


def _parts(status: StatusDocument) -> Iterator[tuple[str, str]]:
    """Labels and texts. An empty label goes on with the part before."""
    if status["started"] and status["not_ready"] is not None:
        yield "because", status["not_ready"]
    if status["last_error"] is not None:
        yield "error", status["last_error"]
    yield from _node(status["node"])
    yield "network", status["network"] or "not known yet"
    yield "lease", _lease(status["lease"])
    yield from _store(status["store"])
    yield "repairs", f"{status['repairs']:,}"
    if status["counters"] is not None:
        yield from _direction("tx", status["counters"]["tx"])
        yield from _direction("rx", status["counters"]["rx"])
    yield "routes", f"{len(status['routes']):,}"
    for route in status["routes"]:
        direct = ", directly" if route["direct"] else ""
        yield "", f"{route['subnet']} to {route['peer']}{direct}"
    if status["ignored"]:
        yield "ignored", f"{len(status['ignored']):,}"
    for lease in status["ignored"]:
        yield "", f"{lease['subnet']}: {lease['reason']}"


def _node(node: NodeDocument) -> Iterator[tuple[str, str]]:
    if node["public_ip"] is None:
        yield "node", "not known yet"
        return
    public = [node["public_ip"], *filter(None, [node["public_ipv6"]])]
    yield "node", f"{', '.join(public)}, by {node['interface']} ({node['address']})"
    yield "backend", ", ".join(_backend(node))
    mtu6 = f", {node['mtu6']} for IPv6" if node["mtu6"] else ""
    yield "device", f"{node['device'] or 'none'}, MTU {node['mtu']}{mtu6}"
    if node["mac"] is not None:
        yield "", f"MAC {node['mac']}"
    if node["datapath"] not in OUR_PATHS:
        return
    if node["queues"] > 1:
        steering = f", {node['steering']} steering" if node["steering"] else ""
        yield "queues", f"{node['queues']}{steering}"
    yield "offload", ", ".join(node["offloads"]) or "none"
    yield "peers", f"{node['peer_check']} check"


def _backend(node: NodeDocument) -> Iterator[str]:
    yield str(node["backend"])
    if node["vni"] is not None:
        yield f"VNI {node['vni']}"
    if node["port"] is not None:
        yield f"port {node['port']}"
    if node["datapath"] == "others":
        yield "which others carry"
    else:
        yield f"{node['datapath']} path"
    if node["datapath"] in OUR_PATHS:
        yield f"{node['driver']} driver"


def _lease(lease: LeaseDocument | None) -> str:
    if lease is None:
        return "none yet"
    left = lease["expires_in"]
    subnets = ", ".join(filter(None, [lease["subnet"], lease["subnet6"]]))
    if left is None:
        return f"{subnets}, permanent"
    if left <= 0:
        return f"{subnets}, expired"
    return f"{subnets}, expires in {duration(left)}"


def _store(store: StoreDocument | None) -> Iterator[tuple[str, str]]:
    if store is None:
        yield "store", "not open yet"
        return
    state = "connected" if store["connected"] else "not connected"
    text = f"{store['kind']}, {state}, revision {store['revision']}"
    for name in ("resyncs", "skipped"):
        if store[name]:
            text += f", {store[name]:,} {name}"
    yield "store", text
    if store["error"] is not None:
        yield "", store["error"]


def _direction(label: str, direction: DirectionDocument) -> Iterator[tuple[str, str]]:
    yield label, f"{direction['packets']:,} packets, {direction['bytes']:,} bytes"
    if calls := direction["tun_calls"] + direction["wire_calls"]:
        moved = f"{direction['frames']:,} frames, {direction['messages']:,} messages"
        yield "", f"{moved}, {calls:,} calls, {direction['pumps']:,} pumps"
    answers, limited = direction["answers"], direction["answers_limited"]
    if answers or limited:
        yield "", f"ICMP errors: {answers:,} sent, {limited:,} kept back"
    drops = sorted(direction["drops"].items(), key=lambda drop: (-drop[1], drop[0]))
    if text := ", ".join(f"{count:,} {reason}" for reason, count in drops if count):
        yield "", f"dropped: {text}"
