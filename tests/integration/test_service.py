"""A daemon as a service: what its manager hears of it from its start to its end."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from flannelette.benchmarks.servicemanager import ServiceManager
from tests.helpers.lab import DEADLINE, lab
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces


def test_a_daemons_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4.2, D4: when it is ready there is a subnet file, and there are routes."""
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with lab(tmp_path) as it, ServiceManager(it.rig, tmp_path / "manager") as manager:
        it.start_store()
        it.cluster.start_daemon(2)
        until(lambda: it.is_ready(2))
        it.cluster.managers[1] = manager
        daemon = it.cluster.start_daemon(1)
        assert manager.ready.wait(DEADLINE)
        assert (tmp_path / "h1/subnet.env").exists()
        status = it.status(1)
        assert len(status["routes"]) == 1
        subnet = status["lease"]["subnet"]
        assert manager.told["STATUS"] == f"ready: {subnet} on flannel0, 1 peer"
        until(lambda: "WATCHDOG" in manager.told)

        manager.ready.clear()
        before = time.monotonic_ns() // 1000
        daemon.process.send_signal(signal.SIGHUP)
        assert manager.ready.wait(DEADLINE)
        assert int(manager.told["MONOTONIC_USEC"]) >= before
        assert manager.told["RELOADING"] == "1"
        assert it.log(1).count("reload: ") == 1

        assert "STOPPING" not in manager.told
        daemon.process.terminate()
        assert daemon.process.wait(DEADLINE) == 0
        until(lambda: "STOPPING" in manager.told)
        assert manager.told["STATUS"] == "stopping"


def test_a_subnet_outlives_a_reboot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E15, of a node that was away for longer than its lease. One of 255 would get the
    same subnet by chance, and none the same MAC."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "lib"))
    with lab(tmp_path, backend={"Type": "vxlan"}) as it:
        seen = []
        for _ in range(2):
            it.start_store()
            daemon = it.cluster.start_daemon(1)
            until(lambda: it.is_ready(1))
            status = it.status(1)
            seen.append((status["lease"]["subnet"], status["node"]["mac"]))
            daemon.process.terminate()
            assert daemon.process.wait(DEADLINE) == 0
            (tmp_path / "h1/subnet.env").unlink()
            (tmp_path / "store.sqlite").unlink()
        assert seen[0] == seen[1]
