"""/metrics, as Prometheus' own parsers read it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, strategies as st
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from flannelette.control.health.exporter import PLAIN, Exporter
from flannelette.control.health.figures import Cluster, Figures
from flannelette.control.health.lag import BOUNDS, Lag
from flannelette.control.health.metrics import PEERS
from flannelette.control.health.readiness import Cause, NotReady, Ready, Verdict
from flannelette.dataplane.forwarder import Drop, PeerCounters
from tests.helpers.statusdocuments import direction, document

NOW = 10**15
DROPS = {drop.label: 100 + drop for drop in Drop}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Parser = Callable[[str], Iterable[Metric]]
Shown = dict[str, dict[tuple[str, ...], float]]


def peer(number: int, tx: int = 0, rx: int = 0, seen: int = 0) -> PeerCounters:
    address = int(IPv4Address("192.0.2.0")) + number
    return PeerCounters(address, 4, tx, 1000 * tx, rx, 1000 * rx, seen)


def figures(
    verdict: Verdict | None = None,
    peers: Iterable[PeerCounters] = (),
    cluster: Cluster | None = None,
    **changes: Any,
) -> Figures:
    summary = document(**changes)
    lag = Lag()
    for seconds in (0.001, 0.003, 9.0):
        lag.note(seconds)
    return Figures(
        summary,  # type: ignore[arg-type]
        verdict or Ready(),
        lag,
        cluster or Cluster(),
        list(peers),
        NOW,
    )


def counters(**members: Any) -> dict[str, Any]:
    one = direction(7) | {"drops": DROPS} | members
    return {"tx": one, "rx": one | {"packets": 8}}


def text(found: Figures, accept: str = "", peers: int = PEERS) -> str:
    return Exporter(lambda: found).page(accept, peers)[0].decode()


def shown(found: Figures, accept: str = "", peers: int = PEERS) -> Shown:
    """By name, and by the values of the labels in order of their names."""
    parser: Parser = parse_openmetrics if accept else parse_plain
    samples: Shown = {}
    for family in parser(text(found, accept, peers)):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            assert labels not in samples.setdefault(sample.name, {})
            samples[sample.name][labels] = sample.value
    return samples


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_every_drop_reason_is_there_in_both_directions(accept: str) -> None:
    found = shown(figures(counters=counters()), accept)
    assert found["flannelette_drops_total"] == {
        (where, drop.label): 100 + drop for where in ("tx", "rx") for drop in Drop
    }


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_node_at_work(accept: str) -> None:
    found = shown(
        figures(
            peers=[peer(2, tx=5, rx=6, seen=NOW - 2_500_000_000), peer(3)],
            cluster=Cluster(routes=4, direct=1, peers=2, ignored=3),
            counters=counters(timed_packets=9, stages={"read": 1_500_000_000}),
            repairs=3,
            tun_drops=4,
        ),
        accept,
    )
    assert {name: found[f"flannelette_{name}"] for name in SOME} == SOME
    buckets = found["flannelette_loop_lag_seconds_bucket"]
    assert buckets[(str(BOUNDS[0]),)] == 1
    assert buckets[(str(BOUNDS[1]),)] == buckets[(str(BOUNDS[-1]),)] == 2
    assert buckets[("+Inf",)] == 3
    assert found["process_resident_memory_bytes"][()] > 1_000_000


SOME: Shown = {
    "build_info": {("0.1.0",): 1},
    "ready": {(): 1},
    "not_ready": {(cause.value,): 0 for cause in Cause},
    "node_info": {
        (
            *("udp", "native", "flannel0", "thread"),
            *("eth0", "peer", "192.0.2.1"),
        ): 1
    },
    "mtu_bytes": {("4",): 1472},
    "queues": {(): 1},
    "offload": {
        ("vnet",): 1,
        ("merge_tcp",): 1,
        ("merge_udp",): 1,
        ("gso",): 1,
        ("gro",): 1,
    },
    "lease_expires_in_seconds": {(): 86390.1},
    "store_connected": {(): 1},
    "store_outage_seconds": {(): 0},
    "store_watch_age_seconds": {(): 0.5},
    "store_revision": {(): 4210},
    "store_resyncs_total": {(): 0},
    "store_skipped_total": {(): 0},
    "peers": {(): 2},
    "routes": {(): 4},
    "routes_direct": {(): 1},
    "leases_ignored": {(): 3},
    "repairs_total": {(): 3},
    "packets_total": {("tx",): 7, ("rx",): 8},
    "tun_queue_drops_total": {(): 4},
    "socket_queue_bytes": {("4", "0"): 1_000_000},
    "socket_queue_limit_bytes": {("4", "0"): 8_388_608},
    "socket_drops_total": {("4", "0"): 0},
    "stage_seconds_total": {("tx", "read"): 1.5, ("rx", "read"): 1.5},
    "stage_packets_total": {("tx",): 9, ("rx",): 9},
    "peer_packets_total": {
        ("tx", "192.0.2.2"): 5,
        ("rx", "192.0.2.2"): 6,
        ("tx", "192.0.2.3"): 0,
        ("rx", "192.0.2.3"): 0,
    },
    "peer_bytes_total": {
        ("tx", "192.0.2.2"): 5000,
        ("rx", "192.0.2.2"): 6000,
        ("tx", "192.0.2.3"): 0,
        ("rx", "192.0.2.3"): 0,
    },
    "peer_idle_seconds": {("192.0.2.2",): 2.5},
    "loop_lag_seconds_count": {(): 3},
}


def test_names_are_those_of_the_conventions() -> None:
    """Counters end with _total, and units are whole ones; each has a text."""
    found = figures(peers=[peer(1, seen=1)], counters=counters(timed_packets=1))
    parse: Parser = parse_openmetrics
    for family in parse(text(found, OPENMETRICS)):
        assert re.fullmatch("(flannelette|process)_[a-z0-9_]+", family.name)
        assert family.documentation.endswith(".")
        if family.name.startswith("flannelette_"):
            assert family.type in ("counter", "gauge", "histogram", "info")
            assert not re.search("_(ms|ns|count|total|kib)$", family.name)


def test_what_is_not_known_yet_or_means_nothing_is_absent() -> None:
    nothing = dict.fromkeys(document()["node"]) | {
        "datapath": "native",
        "driver": "loop",
        "peer_check": "off",
        "queues": 2,
        "offloads": [],
    }
    waiting = NotReady({Cause.STARTING: "no config"})
    found = shown(
        figures(
            waiting,
            started=False,
            node=nothing,
            lease=None,
            store=None,
            sockets=[],
            tun_drops=None,
        )
    )
    assert found["flannelette_ready"][()] == 0
    assert found["flannelette_not_ready"][("starting",)] == 1
    names = {
        name
        for name in found
        if re.search("lease|store|mtu|socket|tun_q|peer|routes", name)
    }
    assert names == set()
    assert "stage" not in " ".join(found)
    assert found["flannelette_packets_total"].keys() == {("tx",), ("rx",)}


def test_what_the_kernel_carries_it_counts() -> None:
    found = shown(figures(counters=None, tun_drops=None, sockets=[]))
    assert "flannelette_packets_total" not in found
    assert "flannelette_drops_total" not in found


def test_a_permanent_lease_and_an_unheard_store() -> None:
    summary = document()
    lease = summary["lease"] | {"expires_in": None}
    store = summary["store"] | {"age": None, "connected": False, "outage": 7.5}
    found = shown(figures(lease=lease, store=store))
    assert "flannelette_lease_expires_in_seconds" not in found
    assert "flannelette_store_watch_age_seconds" not in found
    assert found["flannelette_store_connected"][()] == 0
    assert found["flannelette_store_outage_seconds"][()] == 7.5


def test_every_cause_that_keeps_it_from_being_ready_is_told() -> None:
    verdict = NotReady({Cause.STORE: "gone", Cause.RULES: "no nft"})
    causes = shown(figures(verdict))["flannelette_not_ready"]
    assert {cause for (cause,), value in causes.items() if value} == {"store", "rules"}


def test_a_thousand_peers_are_bounded_to_the_busiest() -> None:
    """And to as many as a scrape asks for."""
    many = [peer(n, tx=n % 977) for n in range(1000)]
    busiest = sorted((one.tx_packets for one in many), reverse=True)
    for asked in (PEERS, 0, 3, 1000, 5000):
        found = shown(figures(peers=many), peers=asked)
        packets = found.get("flannelette_peer_packets_total", {})
        told = sorted((v for (d, _), v in packets.items() if d == "tx"), reverse=True)
        assert told == busiest[:asked]
    assert len(shown(figures(peers=many))["flannelette_peer_bytes_total"]) == 2 * PEERS


def test_a_peer_of_ipv6() -> None:
    six = PeerCounters(int(IPv6Address("2001:db8::1")), 6, 1, 2, 3, 4, NOW)
    found = shown(figures(peers=[six]))
    assert found["flannelette_peer_idle_seconds"] == {("2001:db8::1",): 0}


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", False),
        (OPENMETRICS, True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5", True),
        ("text/plain;q=0.1, application/openmetrics-text;version=1.0.0;q=0.7", True),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;version=x", False),
        ("application/openmetrics-text;version=1.0.0, " + "," * 9, True),
    ],
)
def test_two_formats(accept: str, openmetrics: bool) -> None:
    page, media_type = Exporter(figures).page(accept)
    assert media_type.startswith(OPENMETRICS if openmetrics else "text/plain")
    assert page.endswith(b"# EOF\n") is openmetrics
    assert (media_type == PLAIN) is not openmetrics


@given(st.text(), st.text(alphabet="aoplictn/;,=vers10. -", max_size=60))
def test_no_accept_header_fails(any_text: str, near: str) -> None:
    assert Exporter(figures).page(any_text)[1] == PLAIN
    Exporter(figures).page(near)


@given(st.text())
def test_labels_may_be_anything(name: str) -> None:
    """What comes from the store or the kernel ends no line and steals no label."""
    node = document()["node"] | {"device": name, "interface": name}
    for accept in ("", OPENMETRICS):
        found = shown(figures(node=node), accept)
        ((_, _, device, _, interface, _, _),) = found["flannelette_node_info"]
        assert (device, interface) == (name, name)
        assert found["flannelette_ready"] == {(): 1}


def test_families_are_in_one_piece() -> None:
    """Their samples follow each other: the format demands it."""
    names = [
        re.sub("_(bucket|count|sum)$", "", line.partition("{")[0].split()[0])
        for line in text(figures(counters=counters(), peers=[peer(1)])).splitlines()
        if not line.startswith("#")
    ]
    runs = [name for name, _ in groupby(names)]
    assert len(runs) == len(set(runs))
    assert json.dumps(runs).count("flannelette_") > 30
