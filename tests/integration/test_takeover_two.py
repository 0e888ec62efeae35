"""Two daemons take over at once: one goes on, and forwarding does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flannelette.benchmarks.cluster import Daemon
from tests.helpers.lab import DEADLINE
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.restarts import WENT_ON, Restarts, restarts

pytestmark = needs_namespaces

ROUNDS = 3


@pytest.fixture
def udp(tmp_path: Path) -> Iterator[Restarts]:
    with restarts(tmp_path) as it:
        yield it


def test_two_at_the_same_moment(udp: Restarts) -> None:
    """The one that is not first gives up, or takes over from the first: it may have
    been slow."""
    device = udp.device()
    with udp.losing_nothing(), udp.losing_nothing(2, 1):
        for _ in range(ROUNDS):  # which of them is how far is another each time
            two_take_over(udp)
    assert udp.device() == device
    udp.lab.reach(1, 2)


def two_take_over(it: Restarts) -> None:
    daemons = it.lab.cluster.daemons
    old = daemons[1].process
    before = len(it.lab.log(1))
    both = [it.lab.cluster.start_daemon(1, "--take-over") for _ in range(2)]
    until(lambda: running(both) < 2)
    assert old.wait(DEADLINE) == 0
    said = it.lab.log(1)[before:]
    assert running(both) == 1, said
    (daemons[1],) = (one for one in both if one.process.poll() is None)
    it.until_ready()
    (other,) = (one.process for one in both if one is not daemons[1])
    said = it.lab.log(1)[before:]
    assert said.count(WENT_ON) == (1 if other.returncode else 2), said


def running(daemons: list[Daemon]) -> int:
    return sum(one.process.poll() is None for one in daemons)
