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
    daemons = udp.lab.cluster.daemons
    device = udp.device()
    for _ in range(ROUNDS):
        old = daemons[1].process
        before = len(udp.lab.log(1))
        with udp.losing_nothing(), udp.losing_nothing(2, 1):
            both = [udp.lab.cluster.start_daemon(1, "--take-over") for _ in range(2)]
            until(lambda both=both: running(both) < 2)  # type: ignore[misc]
            assert old.wait(DEADLINE) == 0
        assert running(both) == 1, udp.lab.log(1)[before:]
        (daemons[1],) = (one for one in both if one.process.poll() is None)
        udp.until_ready()
        assert udp.device() == device
        udp.lab.reach(1, 2)
        went_on = udp.lab.log(1)[before:].count(WENT_ON)
        (other,) = (one.process for one in both if one is not daemons[1])
        assert went_on == (1 if other.returncode else 2), udp.lab.log(1)[before:]


def running(daemons: list[Daemon]) -> int:
    return sum(one.process.poll() is None for one in daemons)
