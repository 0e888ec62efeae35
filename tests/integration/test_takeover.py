"""A daemon takes over from one that forwards until then: `run --take-over`."""

from __future__ import annotations

import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.lab import DEADLINE
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.restarts import WENT_ON, Restarts, restarts

pytestmark = needs_namespaces


@pytest.fixture
def udp(tmp_path: Path) -> Iterator[Restarts]:
    with restarts(tmp_path) as it:
        yield it


def test_nothing_is_lost_and_the_service_goes_on(udp: Restarts) -> None:
    """Twice: who took over hands over, too."""
    device = udp.device()
    for _ in range(2):
        udp.manager.forget()  # as one that knew nothing of the daemon before
        old = udp.lab.cluster.daemons[1].process
        with udp.losing_nothing(), udp.losing_nothing(2, 1):
            new = udp.lab.cluster.start_daemon(1, "--take-over").process
            assert old.wait(DEADLINE) == 0
            udp.until_ready()
        assert udp.lab.status(1)["uptime"] < DEADLINE
        assert udp.device() == device
        until(lambda: len(udp.routes()) == 1)
        until(lambda pid=str(new.pid): udp.manager.told.get("MAINPID") == pid)  # type: ignore[misc]
        assert "STOPPING" not in udp.manager.told
        until(lambda: udp.manager.names == ["document", "rx-0", "tun-0"])
    assert udp.lab.log(1).count(WENT_ON) == 2
    assert "WARNING" not in udp.lab.log(1)
    with udp.losing_nothing():  # and what the manager keeps is still of use
        udp.stop()
        udp.start()
    assert WENT_ON in udp.log


def test_who_does_not_take_over_in_the_end(udp: Restarts) -> None:
    """Killed before it did; with other settings; it starts where nobody is."""
    old = udp.lab.cluster.daemons[1]
    nowhere = ["--store=etcd", "--etcd-endpoints=http://127.0.0.1:1"]
    with udp.losing_nothing():
        new = udp.lab.cluster.start_daemon(1, "--take-over", *nowhere).process
        until(lambda: "waiting for the network config" in udp.lab.log(1))
        new.kill()
        new.wait(DEADLINE)
        until(lambda: "it was broken off" in udp.lab.log(1))
        new = udp.lab.cluster.start_daemon(1, "--take-over", "--queues=2").process
        assert new.wait(DEADLINE) == 1
        last = udp.lab.log(1).splitlines()
        why = "flannelette: nothing is taken over: --queues or --offload"
        assert any(line.startswith(why) for line in last)
    assert old.process.poll() is None
    assert "goes on" not in udp.lab.log(1)
    udp.lab.cluster.daemons[1] = old
    udp.stop()
    udp.manager.forget()
    udp.start("--take-over")
    assert "there is no daemon to take over from" in udp.log


def test_only_one_takes_over(udp: Restarts) -> None:
    """Of two that are ready in the same moment."""
    old = udp.lab.cluster.daemons[1].process
    address = str(udp.lab.directory / "h1/flannelette.sock")
    both = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2)]
    for one in both:
        one.settimeout(DEADLINE)
        one.connect(address)
        one.sendall(b"hand-over\n")
        while not one.recv(4096).endswith(b".\n"):
            pass
    old.send_signal(signal.SIGSTOP)
    for one in both:
        one.sendall(b"go\n")
    old.send_signal(signal.SIGCONT)
    answers = sorted(one.recv(4096) for one in both)
    assert answers[0] == b"gone\n"
    assert answers[1].startswith(b'{"error": ')
    assert old.wait(DEADLINE) == 0
    for one in both:
        one.close()


def test_another_port(udp: Restarts) -> None:
    """What cannot be kept is let go by both, and opened anew."""
    config = '{"Network": "10.5.0.0/16", "Backend": {"Type": "udp", "Port": 8286}}'
    store = udp.lab.directory / "store.sqlite"
    with closing(sqlite3.connect(store)) as db, db:
        db.execute("UPDATE config SET text = ?", (config,))
    old = udp.lab.cluster.daemons[1].process
    udp.lab.cluster.start_daemon(1, "--take-over")
    assert old.wait(DEADLINE) == 0
    udp.until_ready()
    assert "the underlay is another than before" in udp.lab.log(1)
    assert udp.lab.status(1)["node"]["port"] == 8286
    until(lambda: udp.manager.names == ["document", "rx-0", "tun-0"])


def test_the_kernel_hands_nothing_over(tmp_path: Path) -> None:
    kernel = {"Type": "vxlan", "Datapath": "kernel"}
    with restarts(tmp_path, backend=kernel) as it:
        it.lab.until_reaches(1, 2)
        old = it.lab.cluster.daemons[1]
        new = it.lab.cluster.start_daemon(1, "--take-over").process
        assert new.wait(DEADLINE) == 1
        assert "it does not carry packets itself" in it.lab.log(1)
        it.lab.cluster.daemons[1] = old
        it.lab.reach(1, 2)
