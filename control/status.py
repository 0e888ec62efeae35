"""`flannelette status`: the daemon's document, for a person to read.

The document is also the shape that `--json` promises; what is not known yet is null.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, TypedDict

import msgspec

from flannelette.control.errors import HostError

WIDTH = 80
"""Columns."""
OUR_PATHS = ("native", "python")
"""Datapaths of ours, which count packets."""
_LABEL = 9
"""Columns of a label and the space after it."""


class NodeDocument(TypedDict):
    public_ip: str | None
    public_ipv6: str | None
    interface: str | None
    address: str | None
    """The external interface's own."""
    device: str | None
    """Where packets enter the overlay: our TUN, or the kernel's device. host-gw has
    none."""
    mtu: int | None
    """Of the overlay's IPv4 packets, bytes."""
    mtu6: int | None
    """Of its IPv6 packets; null: there are none."""
    backend: str | None
    port: int | None
    vni: int | None
    """Of vxlan only, as is the MAC."""
    mac: str | None
    peer_check: str
    datapath: str
    """`native` or `python`, which are ours, or `kernel`; `others`: whoever carries the
    packets, it is neither."""
    driver: str
    queues: int
    steering: str | None
    """`fixed`: a flow keeps its queue of the TUN; `automatic`: the kernel may change
    it; null without a choice."""
    offloads: list[str]
    """Those in use: allowed, granted by the kernel, and not refused since."""


class LeaseDocument(TypedDict):
    subnet: str
    subnet6: str | None
    expires_in: float | None
    """Seconds; null if it never does."""


class StoreDocument(TypedDict):
    kind: str
    connected: bool
    revision: int
    resyncs: int
    skipped: int
    error: str | None
    outage: float
    """Seconds for which it has not been connected."""
    age: float | None
    """Seconds since it was heard of last."""


class RouteDocument(TypedDict):
    subnet: str
    peer: str
    """Address and port; without one where nothing is encapsulated."""
    direct: bool
    """Over the network segment, without encapsulation (DirectRouting)."""


class IgnoredDocument(TypedDict):
    """A lease that is no route."""

    subnet: str
    reason: str


class DirectionDocument(TypedDict):
    packets: int
    bytes: int
    answers: int
    """ICMP errors of ours."""
    answers_limited: int
    """ICMP errors that the rate limit kept back."""
    drops: dict[str, int]
    """Packets by reason."""
    frames: int
    """Through the TUN: packets and superpackets."""
    frame_bytes: int
    """Virtio headers among them."""
    tun_calls: int
    messages: int
    """Through the sockets; a burst that the kernel cuts or joins is one."""
    message_bytes: int
    """UDP payload."""
    wire_calls: int
    pumps: int
    """Wake-ups: how often there was something to read again."""
    stages: dict[str, int]
    """Nanoseconds in each, in the rounds that were timed (--time-stages)."""
    timed_packets: int
    """Forwarded in these rounds."""


class CountersDocument(TypedDict):
    tx: DirectionDocument
    rx: DirectionDocument


class SocketDocument(TypedDict):
    """One that receives. Bytes are the kernel's, more than the datagrams are long."""

    queue: int
    version: int
    """Of IP."""
    rx_bytes: int
    rx_room: int
    rx_drops: int
    """Datagrams that found no room, or bursts of them."""


class TrafficDocument(TypedDict):
    packets: int
    bytes: int
    """Of IP packets, outer headers not counted."""


class PeerDocument(TypedDict):
    """Of a node that routes lead to, since they do."""

    address: str
    """On the underlay."""
    subnets: list[str]
    tx: TrafficDocument
    """Wrapped for it."""
    rx: TrafficDocument
    """Datagrams from it, those dropped later among them."""
    idle: float | None
    """Seconds since its last datagram; null: there was none."""


class SummaryDocument(TypedDict):
    """What does not grow with the cluster."""

    version: str
    started: bool
    """There are a lease, rules and a subnet file."""
    ready: bool
    """Pods may rely on this node now."""
    not_ready: str | None
    """Why they may not."""
    uptime: float
    """Seconds."""
    node: NodeDocument
    network: str | None
    lease: LeaseDocument | None
    store: StoreDocument | None
    counters: CountersDocument | None
    """null: the kernel carries the packets, and counts them."""
    sockets: list[SocketDocument]
    tun_drops: int | None
    """Frames that the kernel had for our TUN while its queues were full; null: there
    is no TUN of ours."""
    repairs: int
    """How often a device, a route or a chain of rules had to be brought back to its
    desired state."""
    last_error: str | None


class StatusDocument(SummaryDocument):
    """What a daemon answers to `status`."""

    routes: list[RouteDocument]
    ignored: list[IgnoredDocument]
    peers: list[PeerDocument]
    """None where the kernel carries the packets."""


def parse(document: dict[str, Any]) -> StatusDocument:
    """Raises HostError when it has another shape: another version's daemon answered."""
    try:
        return msgspec.convert(document, StatusDocument)
    except msgspec.ValidationError as error:
        raise HostError(f"the daemon's status is not understood: {error}") from None


def render(document: dict[str, Any]) -> str:
    """The document in lines of at most 80 columns, without a newline at the end.

    Raises HostError, as parse() does."""
    status = parse(document)
    ready = "ready" if status["ready"] else "not ready"
    up = duration(status["uptime"])
    lines = wrapped(f"flannelette {status['version']}, {ready}, up {up}", "")
    for label, text in _parts(status):
        lines += wrapped(text, f"{label:{_LABEL}}")
    return "\n".join(lines)


def wrapped(text: str, label: str, indent: int = _LABEL) -> list[str]:
    """The text behind its label, in lines of at most WIDTH columns; those after the
    first are indented."""
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )


def duration(seconds: float) -> str:
    """The two largest units, such as `23 h 59 min`; rounded down."""
    left = int(max(0.0, seconds))
    counts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or counts:
            counts.append(f"{count} {unit}")
    return " ".join(counts[:2]) or "0 s"


def plural(count: int, noun: str) -> str:
    """Such as `1 packet` and `2,000 packets`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def printable(text: str) -> str:
    """The text on one line, without anything that would steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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
