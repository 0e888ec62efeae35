"""Nodes answer probes at their port: to anybody, and without losing a packet by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flannelette.dataplane.asking import Address, Answer, Question, probes
from flannelette.encap import probe
from tests.helpers.lab import Lab, lab
from tests.helpers.ns import needs_namespaces

pytestmark = needs_namespaces

SIZES = [28, 29, 100, 1000, 1452, 1472]
"""Bytes; with the last but one a packet of IPv6 fills the wire, with the last one a
packet of IPv4."""
WAYS: list[dict[str, Any]] = [
    {},
    {"backend": {"Type": "vxlan"}, "ipv6": True},
    {"driver": "threads", "flags": ["--queues=2"]},
    {"driver": "loop", "flags": ["--offload=none"]},
    {"flags": ["--peer-check=off"]},
    {"flags": ["--peer-check=strict"], "backend": {"Type": "vxlan"}},
    {"datapath": "python", "driver": "loop"},
    {"datapath": "python", "driver": "loop", "backend": {"Type": "vxlan"}},
]


def ask(it: Lab, number: int, *questions: Question) -> list[Answer]:
    """From a host; all are answered."""
    with it.rig.inside(it.rig.host(number)):
        outcomes = probes(questions)
    answers = [o for o in outcomes.values() if isinstance(o, Answer)]
    assert len(answers) == len(questions), outcomes
    return answers


def port(it: Lab) -> int:
    number: int = it.status(1)["node"]["port"]
    return number


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_probes_of_all_sizes_are_answered(tmp_path: Path, way: dict[str, Any]) -> None:
    with lab(tmp_path, store="static", **way) as it:
        it.up()
        addresses: list[Address] = [it.rig.address(2)]
        if way.get("ipv6"):
            addresses.append(it.rig.address6(2))
        asked = [
            Question(address, port(it), size)
            for address in addresses
            for size in SIZES[: 5 if address.version == 6 else 6]
        ]
        before = it.status(2)["counters"]["rx"]["packets"]
        assert all(answer.known for answer in ask(it, 1, *asked))
        assert it.drops(2, "rx") == {}
        assert it.status(2)["counters"]["rx"]["packets"] == before
        it.reach(1, 2)


def test_a_stranger_is_told_that_it_is_one(tmp_path: Path) -> None:
    """And that is no drop."""
    with lab(tmp_path, store="static") as it:
        it.up()
        host = it.rig.host(1)
        it.rig.ip(host, "address add 192.0.2.99/24 dev eth0")
        question = Question(it.rig.address(2), port(it), 28)
        stranger = it.rig.address(1) + 98
        with it.rig.inside(host):
            outcome = probes([question], stranger)[question]
        assert isinstance(outcome, Answer)
        assert not outcome.known
        assert it.drops(2, "rx") == {}


def test_answers_are_limited(tmp_path: Path) -> None:
    """Nobody can make a node answer for ever; packets are carried meanwhile."""
    with lab(tmp_path, store="static") as it:
        it.up()
        count = 5000
        with it.socket_in(it.rig.host(1)) as sock:
            sock.connect((str(it.rig.address(2)), port(it)))
            for number in range(count):
                sock.send(probe.request(number.to_bytes(8)))
            it.reach(1, 2)
            sock.setblocking(False)
            answered = 0
            while True:
                try:
                    sock.recv(100)
                except BlockingIOError:
                    break
                answered += 1
        assert 1 <= answered < count // 2
