"""/metrics: what `flannelette status` tells, for Prometheus.

Every name begins with flannelette_, except for the process's own, which are the client
library's. Units are seconds and bytes; `direction` is tx or rx as everywhere. Durations
are told by our own clock, for whoever scrapes may have another.

What grows with the cluster is bounded: a thousand nodes that each tell of a thousand
peers would be millions of series. The PEERS busiest peers have series of their own, or
as many as a scrape asks for (/metrics?peers=N, PEERS_MOST at the most: whoever may ask
must not keep the event loop busy); the rest is in the node's totals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import nlargest

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from flannelette.control.health.figures import Figures
from flannelette.control.health.lag import BOUNDS, Lag
from flannelette.control.health.readiness import Cause, NotReady, Ready, Verdict
from flannelette.control.statusdocument import (
    CountersDocument,
    DirectionDocument,
    NodeDocument,
    SocketDocument,
    StoreDocument,
)
from flannelette.dataplane.forwarder import Offload, PeerCounters

PREFIX = "flannelette_"
PEERS = 100
"""That have series of their own, unless a scrape asks for another number."""
PEERS_MOST = 1000

Samples = Iterable[tuple[list[str], float]]
"""Label values, and the value."""


def families(figures: Figures, most: int = PEERS) -> Iterator[Metric]:
    """All metrics; those that would mean nothing now are left out."""
    summary = figures.summary
    yield InfoMetricFamily(
        f"{PREFIX}build", "The version that runs.", {"version": summary["version"]}
    )
    yield from _readiness(figures.verdict)
    yield from _node(summary["node"])
    lease = summary["lease"]
    if lease is not None and lease["expires_in"] is not None:
        name = "lease_expires_in_seconds"
        yield _gauge(
            name, "Time until our lease runs out; absent: never.", lease["expires_in"]
        )
    if summary["store"] is not None:
        yield from _store(summary["store"])
    if summary["started"]:  # before, the store has told nothing
        yield from _cluster(figures)
    yield _counter(
        "repairs",
        "Devices, routes and rules put right that somebody else had changed.",
        summary["repairs"],
    )
    if summary["counters"] is not None:
        yield from _counters(summary["counters"])
    if summary["tun_drops"] is not None:
        yield _counter(
            "tun_queue_drops",
            "Frames that the kernel had for our TUN while its queues were full.",
            summary["tun_drops"],
        )
    if summary["sockets"]:
        yield from _sockets(summary["sockets"])
    yield from _peers(figures, most)
    yield _lag(figures.lag)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, text, value)


def _gauges(name: str, text: str, labels: list[str], samples: Samples) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counts(name: str, text: str, labels: list[str], samples: Samples) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _readiness(verdict: Verdict) -> Iterator[Metric]:
    causes = verdict.reasons.keys() if isinstance(verdict, NotReady) else ()
    ready = isinstance(verdict, Ready)
    yield _gauge("ready", "Whether pods may rely on this node, as /readyz says.", ready)
    yield _gauges(
        "not_ready",
        "Which kinds of causes keep it from being ready.",
        ["cause"],
        (([cause.value], cause in causes) for cause in Cause),
    )


def _node(node: NodeDocument) -> Iterator[Metric]:
    words = ("backend", "datapath", "driver", "peer_check", "public_ip", "interface")
    yield InfoMetricFamily(
        f"{PREFIX}node",
        "What this node is; empty: not known yet, or there is none.",
        {name: str(node[name] or "") for name in (*words, "device")},  # type: ignore[literal-required]
    )
    mtus = {"4": node["mtu"], "6": node["mtu6"]}
    yield _gauges(
        "mtu_bytes",
        "Length of the longest packet that the overlay carries.",
        ["ip_version"],
        (([version], mtu) for version, mtu in mtus.items() if mtu is not None),
    )
    yield _gauge("queues", "Queues that share the work.", node["queues"])
    names = [str(bit.name).lower() for bit in Offload]
    yield _gauges(
        "offload",
        "Whether the kernel does this for us: allowed, granted, not refused since.",
        ["offload"],
        (([name], name in node["offloads"]) for name in names),
    )


def _store(store: StoreDocument) -> Iterator[Metric]:
    yield _gauge("store_connected", "Whether the store answers.", store["connected"])
    yield _gauge(
        "store_outage_seconds",
        "How long the store has not answered; 0: it does.",
        store["outage"],
    )
    if store["age"] is not None:
        yield _gauge(
            "store_watch_age_seconds",
            "Since the store told anything, if only that there is nothing new.",
            store["age"],
        )
    yield _gauge(
        "store_revision", "The last revision that the watch saw.", store["revision"]
    )
    yield _counter("store_resyncs", "How often the watch began anew.", store["resyncs"])
    yield _counter(
        "store_skipped", "Entries in the store that are no leases.", store["skipped"]
    )


def _cluster(figures: Figures) -> Iterator[Metric]:
    cluster = figures.cluster
    yield _gauge("peers", "Nodes that routes lead to.", cluster.peers)
    yield _gauge("routes", "Subnets of other nodes.", cluster.routes)
    yield _gauge(
        "routes_direct", "Subnets reached without encapsulation.", cluster.direct
    )
    yield _gauge("leases_ignored", "Leases that are no routes.", cluster.ignored)


def _counters(counters: CountersDocument) -> Iterator[Metric]:
    directions: dict[str, DirectionDocument] = {
        "tx": counters["tx"],
        "rx": counters["rx"],
    }
    for member, (name, text) in _OF_A_DIRECTION.items():
        samples = (
            ([label], one[member])  # type: ignore[literal-required]
            for label, one in directions.items()
        )
        yield _counts(name, text, ["direction"], samples)
    yield _counts(
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
        yield _counts(
            "stage_packets",
            "Packets forwarded in the rounds that were timed (--time-stages).",
            ["direction"],
            (([label], one["timed_packets"]) for label, one in directions.items()),
        )
        yield _counts(
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


def _sockets(sockets: list[SocketDocument]) -> Iterator[Metric]:
    labels = ["queue", "ip_version"]
    keys = [[str(one["queue"]), str(one["version"])] for one in sockets]
    yield _gauges(
        "socket_queue_bytes",
        "Kernel memory that datagrams take that wait for us in a socket.",
        labels,
        zip(keys, (one["rx_bytes"] for one in sockets), strict=True),
    )
    yield _gauges(
        "socket_queue_limit_bytes",
        "Kernel memory beyond which a socket drops datagrams.",
        labels,
        zip(keys, (one["rx_room"] for one in sockets), strict=True),
    )
    yield _counts(
        "socket_drops",
        "Datagrams that found no room in a socket, or bursts of them.",
        labels,
        zip(keys, (one["rx_drops"] for one in sockets), strict=True),
    )


def _peers(figures: Figures, most: int) -> Iterator[Metric]:
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
    yield _counts(
        "peer_packets",
        "tx: packets wrapped for a peer; rx: its datagrams, dropped ones too.",
        labels,
        of_each(lambda one: one.tx_packets, lambda one: one.rx_packets),
    )
    yield _counts(
        "peer_bytes",
        "Bytes of what peer_packets counts, without outer headers.",
        labels,
        of_each(lambda one: one.tx_bytes, lambda one: one.rx_bytes),
    )
    yield _gauges(
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


def _lag(lag: Lag) -> Metric:
    counts = 0
    buckets = []
    for bound, count in zip([*map(str, BOUNDS), "+Inf"], lag.counts, strict=True):
        counts += count
        buckets.append((bound, counts))
    return HistogramMetricFamily(
        f"{PREFIX}loop_lag_seconds",
        "How late the daemon's event loop does what it was asked to do at a time.",
        buckets,
        lag.total,
    )
