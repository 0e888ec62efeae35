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

from collections.abc import Iterator

from prometheus_client.core import HistogramMetricFamily, InfoMetricFamily, Metric

from flannelette.control.health.figures import Figures
from flannelette.control.health.lag import BOUNDS, Lag
from flannelette.control.health.metricfamily import PREFIX, counter, gauge, gauges
from flannelette.control.health.readiness import Cause, NotReady, Ready, Verdict
from flannelette.control.health.traffic import of_directions, of_peers, of_sockets
from flannelette.control.statusdocument import NodeDocument, StoreDocument
from flannelette.dataplane.forwarder import Offload

PEERS = 100
"""That have series of their own, unless a scrape asks for another number."""
PEERS_MOST = 1000


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
        yield gauge(
            name, "Time until our lease runs out; absent: never.", lease["expires_in"]
        )
    if summary["store"] is not None:
        yield from _store(summary["store"])
    if summary["started"]:  # before, the store has told nothing
        yield from _cluster(figures)
    yield counter(
        "repairs",
        "Devices, routes and rules put right that somebody else had changed.",
        summary["repairs"],
    )
    if summary["counters"] is not None:
        yield from of_directions(summary["counters"])
    if summary["tun_drops"] is not None:
        yield counter(
            "tun_queue_drops",
            "Frames that the kernel had for our TUN while its queues were full.",
            summary["tun_drops"],
        )
    if summary["sockets"]:
        yield from of_sockets(summary["sockets"])
    yield from of_peers(figures, most)
    yield _lag(figures.lag)


def _readiness(verdict: Verdict) -> Iterator[Metric]:
    causes = verdict.reasons.keys() if isinstance(verdict, NotReady) else ()
    ready = isinstance(verdict, Ready)
    yield gauge("ready", "Whether pods may rely on this node, as /readyz says.", ready)
    yield gauges(
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
    yield gauges(
        "mtu_bytes",
        "Length of the longest packet that the overlay carries.",
        ["ip_version"],
        (([version], mtu) for version, mtu in mtus.items() if mtu is not None),
    )
    yield gauge("queues", "Queues that share the work.", node["queues"])
    names = [str(bit.name).lower() for bit in Offload]
    yield gauges(
        "offload",
        "Whether the kernel does this for us: allowed, granted, not refused since.",
        ["offload"],
        (([name], name in node["offloads"]) for name in names),
    )


def _store(store: StoreDocument) -> Iterator[Metric]:
    yield gauge("store_connected", "Whether the store answers.", store["connected"])
    yield gauge(
        "store_outage_seconds",
        "How long the store has not answered; 0: it does.",
        store["outage"],
    )
    if store["age"] is not None:
        yield gauge(
            "store_watch_age_seconds",
            "Since the store told anything, if only that there is nothing new.",
            store["age"],
        )
    yield gauge(
        "store_revision", "The last revision that the watch saw.", store["revision"]
    )
    yield counter("store_resyncs", "How often the watch began anew.", store["resyncs"])
    yield counter(
        "store_skipped", "Entries in the store that are no leases.", store["skipped"]
    )


def _cluster(figures: Figures) -> Iterator[Metric]:
    cluster = figures.cluster
    yield gauge("peers", "Nodes that routes lead to.", cluster.peers)
    yield gauge("routes", "Subnets of other nodes.", cluster.routes)
    yield gauge(
        "routes_direct", "Subnets reached without encapsulation.", cluster.direct
    )
    yield gauge("leases_ignored", "Leases that are no routes.", cluster.ignored)


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
