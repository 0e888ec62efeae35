"""What one scrape of /metrics shows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from flannelette.control.health.lag import Lag
from flannelette.control.health.readiness import Verdict
from flannelette.control.node import Node
from flannelette.control.statusdocument import SummaryDocument
from flannelette.dataplane.forwarder import PeerCounters


@dataclass(frozen=True, slots=True)
class Cluster:
    """How much there is of what grows with the cluster."""

    routes: int = 0
    direct: int = 0
    """Of the routes, those without encapsulation."""
    peers: int = 0
    """Nodes that routes lead to."""
    ignored: int = 0
    """Leases that are no routes."""


@dataclass(frozen=True, slots=True)
class Figures:
    summary: SummaryDocument
    verdict: Verdict
    lag: Lag
    cluster: Cluster = Cluster()
    peers: Sequence[PeerCounters] = ()
    """None where the kernel carries the packets."""
    now: int = field(default_factory=time.monotonic_ns)
    """When that was so: the clock of PeerCounters.last_seen."""


def figures(
    summary: dict[str, Any], verdict: Verdict, lag: Lag, node: Node | None
) -> Figures:
    """As they are now; `summary` is report.py's."""
    forwarder = node.carrier.forwarder if node else None
    return Figures(
        cast(SummaryDocument, summary),
        verdict,
        lag,
        _cluster(node) if node else Cluster(),
        forwarder.peers() if forwarder else (),
    )


def _cluster(node: Node) -> Cluster:
    carrier = node.carrier
    routes = carrier.routes
    # In dual stack a node may have an address of each IP version.
    addresses = {(route.outer, route.address) for route in routes}
    versions = Counter(outer for outer, _ in addresses)
    return Cluster(
        routes=len(routes),
        direct=len(carrier.direct),
        peers=max(versions.values(), default=0),
        ignored=len(node.table.ignored),
    )
