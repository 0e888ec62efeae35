"""Real daemons, asked over HTTP: what they say of themselves while things break."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flannelette.dataplane.forwarder import Drop
from tests.helpers.lab import Lab, lab
from tests.helpers.ns import needs_namespaces

pytestmark = needs_namespaces

PORT = 9471


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, flags=[f"--healthz-port={PORT}"]) as it:
        it.up()
        yield it


def get(it: Lab, number: int, path: str, address: str = "127.0.0.1") -> tuple[int, str]:
    """A page of a host's daemon: status and text."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    client = it.socket_in(it.rig.host(number), socket.SOCK_STREAM, family)
    with client:
        client.connect((address, PORT))
        connection = HTTPConnection(address, PORT)
        connection.sock = client
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def samples(it: Lab, number: int) -> dict[str, dict[tuple[str, ...], float]]:
    """What a scrape shows, by name and by the values of labels in order of names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(get(it, number, "/metrics")[1]):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_a_node_at_work(pair: Lab) -> None:
    pair.reach(1, 2, count=20)
    assert get(pair, 1, "/healthz") == (200, "flanneld is running")
    assert get(pair, 1, "/readyz") == (200, "flanneld is ready")
    assert get(pair, 1, "/healthz", "::1")[0] == 200
    shown = samples(pair, 1)
    assert shown["flannelette_ready"] == {(): 1.0}
    reasons = {drop.label for drop in Drop}
    assert shown["flannelette_drops_total"].keys() == {
        (direction, reason) for direction in ("tx", "rx") for reason in reasons
    }
