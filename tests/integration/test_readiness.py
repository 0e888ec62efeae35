"""What health checks hear while etcd is away for longer than a lease's margin."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from flannelette.benchmarks import cluster
from tests.helpers import hours
from tests.helpers.etcdfaults import Troubled, troubled
from tests.helpers.health import FLAG, asked
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces

BOTH = (1, 2)
NOT_WATCHED = "etcd is not watched, trying again: error="
NOT_RENEWED = "the lease is not renewed yet: error="


def test_red_while_nothing_renews_the_lease_and_then_green(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets are forwarded all the time."""
    clock = tmp_path / "clock"
    hours.passed(clock, 0)
    command = (sys.executable, str(hours.__file__), str(clock))
    monkeypatch.setattr(cluster, "FLANNELETTE", command)
    with troubled(tmp_path, flags=[FLAG]) as it:
        (server,) = it.servers
        assert is_green(it)
        server.stop()
        it.until_said(NOT_WATCHED)
        assert is_green(it), "so short an outage is survived"

        hours.passed(clock, 2)
        until(lambda: is_red(it, r"the store has been away for 2 h \d+ min: "))
        assert causes(it) == {"store"}
        hours.passed(clock, 23.25)
        until(
            lambda: is_red(
                it,
                r"the lease expires in 4\d min \d+ s and is not renewed: ",
                r"the store has been away for 23 h \d+ min: ",
            )
        )
        assert causes(it) == {"lease", "store"}
        hours.passed(clock, 25)
        away = "the store has been away for 1 d 1 h: "
        until(lambda: is_red(it, "the lease has expired: ", away))
        it.pulse.goes_on()

        server.start()
        until(lambda: is_green(it))
        assert causes(it) == set()
        it.until_said("lease renewed: ")
        for number in BOTH:
            assert it.lab.status(number)["lease"]["expires_in"] > 23 * 3600
            it.all_said(number, NOT_WATCHED, NOT_RENEWED)


def is_green(it: Troubled) -> bool:
    """To health checks of both hosts."""
    answers = [asked(it.lab.rig, number, "/readyz") for number in BOTH]
    return all(answer[:2] == (200, "flanneld is ready") for answer in answers)


def is_red(it: Troubled, *reasons: str) -> bool:
    """For exactly these reasons (patterns), each with what etcd's client has said."""
    (server,) = it.servers
    said = f"192.0.2.1:{server.port}: Failed to connect to remote host"
    status, text, _ = asked(it.lab.rig, 1, "/readyz")
    assert asked(it.lab.rig, 1, "/healthz").status == 200
    first, *lines = text.splitlines()
    return (status, first, len(lines)) == (
        503,
        "flanneld is not ready yet",
        len(reasons),
    ) and all(
        re.match(reason + re.escape(said), line)
        for reason, line in zip(reasons, lines, strict=True)
    )


def causes(it: Troubled) -> set[str]:
    """Those that its metrics have."""
    text = asked(it.lab.rig, 1, "/metrics").text
    found = re.findall(r'^flannelette_not_ready{cause="(\w+)"} 1\.0$', text, re.M)
    assert f"\nflannelette_ready {float(not found)}\n" in text
    return set(found)
