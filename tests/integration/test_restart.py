"""A daemon goes on where the one before it ended: no packet is lost in between."""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.helpers.gateway import LEASES, Gateway
from tests.helpers.lab import DEADLINE
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.restarts import OF_NO_USE, WENT_ON, Restarts, restarts

pytestmark = needs_namespaces

BATCH = 64
"""--batch, unless told."""
DATA = random.Random(6).randbytes(50_000)
OTHER = "10.5.250.0-24"
VALUE = b'{"PublicIP":"192.0.2.77","PublicIPv6":null}'


@pytest.fixture
def udp(tmp_path: Path) -> Iterator[Restarts]:
    with restarts(tmp_path) as it:
        yield it


@contextmanager
def connected(it: Restarts) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection from the pod of host 1 to that of host 2."""
    lab = it.lab
    server = lab.socket_in(lab.pods[2].ns, socket.SOCK_STREAM)
    client = lab.socket_in(lab.pods[1].ns, socket.SOCK_STREAM)
    with server, client:
        server.bind(("", 5001))
        server.listen()
        client.connect((lab.address(2), 5001))
        there, _ = server.accept()
        there.settimeout(DEADLINE)
        with there:
            yield client, there


def exchange(one: socket.socket, other: socket.socket) -> None:
    """Each sends to the other."""
    for source, target in ((one, other), (other, one)):
        source.sendall(DATA)
        arrives(target)


def arrives(target: socket.socket) -> None:
    """What arrives is what was sent."""
    received = b""
    while len(received) < len(DATA):
        received += target.recv(65536)
    assert received == DATA


def test_nothing_is_lost(udp: Restarts) -> None:
    """Datagrams, and a connection; the TUN stays the same one."""
    device = udp.device()
    with connected(udp) as (client, there):
        exchange(client, there)
        for how, in_hand in ((signal.SIGTERM, 0), (signal.SIGKILL, BATCH)):
            with (
                udp.losing_nothing(in_hand=in_hand),
                udp.losing_nothing(2, 1, in_hand=in_hand),
            ):
                udp.stop(how)
                client.sendall(DATA)  # which waits
                udp.start()
                arrives(there)
            exchange(client, there)
            assert udp.device() == device
            assert WENT_ON in udp.log
            assert "WARNING" not in udp.log


def test_without_its_store_it_forwards_all_the_same(tmp_path: Path) -> None:
    """And peers that the store does not confirm later are forgotten."""
    with restarts(tmp_path, store="etcd") as it:
        etcd = Gateway(it.lab.rig)
        etcd.put(LEASES + OTHER, VALUE)
        until(lambda: len(it.routes()) == 2)
        it.stop()
        etcd.delete(LEASES + OTHER)
        program = next(p for p in it.lab.cluster.programs if p.name == "etcd")
        program.process.kill()
        program.process.wait(DEADLINE)
        it.lab.cluster.start_daemon(1)
        until(lambda: "waiting for the network config" in it.log)
        assert WENT_ON in it.log
        it.lab.reach(1, 2, count=20)
        status = it.lab.status(1)
        assert not status["ready"]
        assert status["node"]["device"] == "flannel0"
        assert len(status["routes"]) == 2
        until(lambda: it.lab.status(1)["counters"]["tx"]["packets"] >= 20)
        it.lab.cluster._start_etcd("http://192.0.2.1:2379", time.monotonic() + DEADLINE)
        it.until_ready()
        until(lambda: len(it.routes()) == 1)
        it.lab.reach(1, 2)


def starts_over(it: Restarts, why: str, *flags: str) -> None:
    """It says so once, and forwards as if there had been nothing."""
    it.start(*flags)
    lines = [line for line in it.log.splitlines() if OF_NO_USE in line]
    assert len(lines) == 1
    assert why in lines[0]
    assert WENT_ON not in it.log
    it.lab.until_reaches(1, 2)


def test_what_cannot_be_used(udp: Restarts) -> None:
    def garbage() -> None:
        os.pwrite(udp.manager.descriptor("document"), b"garbage" * 1000, 20)

    def no_tun() -> None:
        udp.lab.rig.ip(udp.lab.rig.host(1), "link delete flannel0")

    def no_socket() -> None:
        udp.manager.forget("rx-0")

    troubles = {
        "its document is not whole": garbage,
        "its TUN is gone": no_tun,
        "['rx-0']": no_socket,
    }
    for why, trouble in troubles.items():
        udp.stop()
        trouble()
        starts_over(udp, why)
    udp.stop()
    udp.start()
    assert WENT_ON in udp.log, "what replaced it is good"


def test_other_settings(udp: Restarts) -> None:
    udp.stop()
    starts_over(udp, "--queues or --offload", "--queues=2")
    names = ["document", "rx-0", "rx-1", "tun-0", "tun-1"]
    until(lambda: udp.manager.names == names)
    with udp.losing_nothing():
        udp.stop()
        udp.start("--queues=2")
    assert WENT_ON in udp.log
    udp.stop()
    starts_over(udp, "--queues or --offload")


def test_what_the_store_knows_better(udp: Restarts) -> None:
    """The document is good, but the network has another port; then the lease is gone,
    and nobody remembers our subnet."""
    store = udp.lab.directory / "store.sqlite"
    config = '{"Network": "10.5.0.0/16", "Backend": {"Type": "udp", "Port": 8286}}'
    for port, text in ((8286, config), (8285, config.replace("8286", "8285"))):
        with closing(sqlite3.connect(store)) as db, db:
            db.execute("UPDATE config SET text = ?", (text,))
        udp.stop()
        udp.start()
        assert "the underlay is another than before" in udp.log
        assert udp.lab.status(1)["node"]["port"] == port

    before = udp.lab.status(1)["lease"]["subnet"]
    udp.stop()
    udp.lab.directory.joinpath("h1/subnet.env").unlink()
    with closing(sqlite3.connect(store)) as db, db:
        db.execute("DELETE FROM lease WHERE key = ?", (before.replace("/", "-"),))
    udp.start()
    after = udp.lab.status(1)["lease"]["subnet"]
    assert after != before
    assert "the lease is another than before" in udp.log
    show = ["ip", "-o", "-4", "address", "show", "dev", "flannel0"]
    shown = udp.lab.rig.run(udp.lab.rig.host(1), show).stdout
    assert after.replace("/24", "/32") in shown


def test_vxlan_over_both_versions(tmp_path: Path) -> None:
    with restarts(tmp_path, backend={"Type": "vxlan"}, ipv6=True) as it:
        names = [f"{group}-{n}" for group in ("flow", "flow6") for n in range(8)]
        it.lab.until_reaches(2, 1, version=6)
        with it.losing_nothing(), it.losing_nothing(2, 1, version=6):
            it.stop()
            kept = ["document", *names, "rx-0", "rx6-0", "tun-0"]
            until(lambda: it.manager.names == kept)
            it.start()
        assert WENT_ON in it.log
        it.stop()
        it.lab.cluster._flags.append("--datapath=python")
        starts_over(it, "--queues or --offload")
        with it.losing_nothing(in_hand=BATCH):
            it.stop(signal.SIGKILL)
            it.start()
        assert WENT_ON in it.log


def test_who_cannot_start_ends(udp: Restarts) -> None:
    """Also when it forwards already: nobody else could end its pumps."""
    udp.stop()
    new = udp.lab.cluster.start_daemon(1, "--subnet-file=/dev/null").process
    assert new.wait(DEADLINE) == 1
    assert WENT_ON in udp.log
    udp.start()
    assert WENT_ON in udp.log, "what was left is there all the same"
