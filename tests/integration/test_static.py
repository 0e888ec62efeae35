"""Daemons on a file of nodes: it may change, and a bad one is refused."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.helpers.lab import lab
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces

THIRD = """
[[node]]
public-ip = "192.0.2.77"
subnet = "10.5.77.0/24"
"""


def test_a_changed_file_is_followed_and_a_bad_one_refused(tmp_path: Path) -> None:
    with lab(tmp_path, store="static") as it:
        it.up()
        file = tmp_path / "peers.toml"
        good = file.read_text()

        def routes() -> list[str]:
            return [route["subnet"] for route in it.status(1)["routes"]]

        file.write_text(good + THIRD)
        until(lambda: "10.5.77.0/24" in routes())

        file.write_text("[network\n")
        it.cluster.daemons[1].process.send_signal(signal.SIGHUP)
        until(lambda: it.status(1)["store"]["error"])
        assert "10.5.77.0/24" in routes()
        it.reach(1, 2)

        file.write_text(good)
        it.cluster.daemons[1].process.send_signal(signal.SIGHUP)
        until(lambda: "10.5.77.0/24" not in routes())
        assert it.status(1)["store"]["error"] is None
        it.reach(1, 2)
        assert it.log(1).count("not TOML") == 1
