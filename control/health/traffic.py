"""What /metrics tells of packets: counters, sockets, and the busiest peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import nlargest

from prometheus_client.core import Metric

from flannelette.control.health.figures import Figures
from flannelette.control.health.metricfamily import Samples, counts, gauges
from flannelette.control.statusdocument import (
    CountersDocument,
    DirectionDocument,
    SocketDocument,
)
from flannelette.dataplane.forwarder import PeerCounters


def of_directions(counters: CountersDocument) -> Iterator[Metric]:
    """tx and rx of all peers; of timed stages only where there were any."""
    directions: dict[str, DirectionDocument] = {
        "tx": counters["tx"],
        "rx": counters["rx"],
    }
    for member, (name, text) in _OF_A_DIRECTION.items():
        samples = (
            ([label], one[member])  # type: ignore[literal-required]
            for label, one in directions.items()
        )
        yield counts(name, text, ["direction"], samples)
    yield counts(
        "drops",
        "Packets discarded, by reason.",
        ["direction", "reason"],
        (
            ([label, reason], count)
            for label, one in directions.items()
            for reason, count in one["drops"].items()
        ),
    )
    if any(one["timed_packets"] for one in directions.values()):
        yield counts(
            "stage_packets",
            "Packets forwarded in the rounds that were timed (--time-stages).",
            ["direction"],
            (([label], one["timed_packets"]) for label, one in directions.items()),
        )
        yield counts(
            "stage_seconds",
            "Time spent in a stage, in the rounds that were timed.",
            ["direction", "stage"],
            (
                ([label, stage], nanoseconds / 1e9)
                for label, one in directions.items()
                for stage, nanoseconds in one["stages"].items()
            ),
        )


_OF_A_DIRECTION = {
    "packets": ("packets", "Packets forwarded."),
    "bytes": ("bytes", "Bytes forwarded: of IP packets, without outer headers."),
    "answers": ("answers", "tx: ICMP errors for the TUN; rx: replies to probes."),
    "answers_limited": ("answers_limited", "Answers that the rate limit kept back."),
    "frames": ("tun_frames", "Frames through the TUN: packets and superpackets."),
    "frame_bytes": ("tun_bytes", "Bytes through the TUN, virtio headers among them."),
    "tun_calls": ("tun_calls", "System calls on the TUN."),
    "messages": ("wire_messages", "Messages through the sockets; a burst is one."),
    "message_bytes": ("wire_bytes", "Bytes through the sockets: of UDP payload."),
    "wire_calls": ("wire_calls", "System calls on the sockets."),
    "pumps": ("pumps", "Wake-ups: how often there was something to read again."),
}


def of_sockets(sockets: list[SocketDocument]) -> Iterator[Metric]:
    """Of those that receive."""
    labels = ["queue", "ip_version"]
    keys = [[str(one["queue"]), str(one["version"])] for one in sockets]
    yield gauges(
        "socket_queue_bytes",
        "Kernel memory that datagrams take that wait for us in a socket.",
        labels,
        zip(keys, (one["rx_bytes"] for one in sockets), strict=True),
    )
    yield gauges(
        "socket_queue_limit_bytes",
        "Kernel memory beyond which a socket drops datagrams.",
        labels,
        zip(keys, (one["rx_room"] for one in sockets), strict=True),
    )
    yield counts(
        "socket_drops",
        "Datagrams that found no room in a socket, or bursts of them.",
        labels,
        zip(keys, (one["rx_drops"] for one in sockets), strict=True),
    )


def of_peers(figures: Figures, most: int) -> Iterator[Metric]:
    """Of the `most` busiest."""
    chosen = nlargest(most, figures.peers, key=_busy)
    names = [str(one.peer) for one in chosen]
    both = list(zip(names, chosen, strict=True))
    labels = ["peer", "direction"]

    def of_each(
        tx: Callable[[PeerCounters], int], rx: Callable[[PeerCounters], int]
    ) -> Samples:
        for name, one in both:
            yield [name, "tx"], tx(one)
            yield [name, "rx"], rx(one)

    if not chosen:
        return
    yield counts(
        "peer_packets",
        "tx: packets wrapped for a peer; rx: its datagrams, dropped ones too.",
        labels,
        of_each(lambda one: one.tx_packets, lambda one: one.rx_packets),
    )
    yield counts(
        "peer_bytes",
        "Bytes of what peer_packets counts, without outer headers.",
        labels,
        of_each(lambda one: one.tx_bytes, lambda one: one.rx_bytes),
    )
    yield gauges(
        "peer_idle_seconds",
        "Time since a peer's last datagram; absent: there was none.",
        ["peer"],
        (
            ([name], (figures.now - one.last_seen) / 1e9)
            for name, one in both
            if one.last_seen
        ),
    )


def _busy(peer: PeerCounters) -> int:
    """Of counters that only grow, the order changes seldom."""
    return peer.tx_bytes + peer.rx_bytes
