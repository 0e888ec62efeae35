"""The document that a daemon answers to `status`, whole and in its parts.

It is also the shape that `--json` promises; what is not known yet is null. report.py
writes it, status.py and top/ show it.
"""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec

from flannelette.control.errors import HostError

OUR_PATHS = ("native", "python")
"""Datapaths of ours, which count packets."""


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
