"""One of two daemons fails while the other takes over: there is always one that
forwards, and never two."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from flannelette.control.handover.document import decode
from flannelette.control.handover.memory import Memory
from tests.helpers.gateway import LEASES, Gateway
from tests.helpers.lab import DEADLINE
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.restarts import WENT_ON, Restarts, restarts

pytestmark = needs_namespaces

BATCH = 64
"""--batch, unless told: what a daemon may have in hand that is killed."""
NOWHERE = ["--take-over", "--store=etcd", "--etcd-endpoints=http://127.0.0.1:1"]
BEGINS = "external interface: "
"""Each daemon says so once; then it has got what another hands over."""
OTHER = "10.5.250.0-24"
VALUE = b'{"PublicIP":"192.0.2.77","PublicIPv6":null}'
HANGS = """
import os, signal, socket, sys
leaves, path, names, *fds = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path)
listener.listen()
print(flush=True)
while True:
    connection, _ = listener.accept()
    if connection.recv(100) == b"hand-over\\n":
        break
socket.send_fds(connection, [names.encode() + b"\\n"], list(map(int, fds)))
connection.sendall(b".\\n")
assert connection.recv(100) == b"go\\n"
connection.sendall(b"gone\\n")
for fd in fds:
    socket.close(int(fd))
if leaves:
    listener.close()
    os.unlink(path)
signal.pause()
"""
"""A daemon that hands over, and does not end; `leaves`: and listens no more."""


@pytest.fixture
def udp(tmp_path: Path) -> Iterator[Restarts]:
    with restarts(tmp_path) as it:
        yield it


def operator_socket(it: Restarts) -> str:
    return str(it.lab.cluster.daemons[1].socket)


@contextmanager
def asking(it: Restarts) -> Iterator[tuple[socket.socket, dict[str, int]]]:
    """As a new daemon that is not ready yet, and what it got."""
    names, fds = b"", list[int]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(DEADLINE)
        connection.connect(operator_socket(it))
        connection.sendall(b"hand-over\n")
        while not names.endswith(b".\n"):
            data, some, _, _ = socket.recv_fds(connection, 4096, 200)
            names += data
            fds += some
        try:
            yield connection, dict(zip(names.decode().split(), fds, strict=False))
        finally:
            for fd in fds:
                socket.close(fd)


def kept_routes(it: Restarts) -> int:
    """How many the service manager's document has."""
    return len(decode(Memory(it.manager.descriptor("document")).read()).routes)


def test_the_old_one_dies_first(tmp_path: Path) -> None:
    """The new one goes on, though its store does not answer, with all that the old one
    knew in the end; and can be taken over from."""
    with restarts(tmp_path, store="etcd") as it:
        daemons = it.lab.cluster.daemons
        old = daemons[1].process
        gives_up = it.lab.cluster.start_daemon(1, *NOWHERE).process
        new = it.lab.cluster.start_daemon(1, *NOWHERE).process
        until(lambda: it.lab.log(1).count(BEGINS) == 3)
        Gateway(it.lab.rig).put(LEASES + OTHER, VALUE)
        until(lambda: kept_routes(it) == 2)
        gives_up.terminate()
        assert gives_up.wait(DEADLINE) == 0
        assert kept_routes(it) == 2, "the document was still the old one's"
        it.manager.ready.clear()
        with it.losing_nothing(in_hand=BATCH), it.losing_nothing(2, 1, in_hand=BATCH):
            old.kill()
            old.wait(DEADLINE)
            until(lambda: WENT_ON in it.lab.log(1))
            it.lab.reach(1, 2, count=20)
        until(lambda: daemons[1].status() is not None)
        assert not it.lab.is_ready(1)
        assert len(it.routes()) == 2
        assert it.manager.ready.wait(DEADLINE), "pods may start"
        assert it.lab.log(1).count(WENT_ON) == 1
        it.start("--take-over")
        assert new.wait(DEADLINE) == 0
        it.lab.reach(1, 2)


def test_the_old_one_hands_over_to_another(udp: Restarts) -> None:
    """Whoever waits to take over does not take its end for a death."""
    waits = udp.lab.cluster.start_daemon(1, *NOWHERE).process
    until(lambda: udp.lab.log(1).count(BEGINS) == 2)
    with udp.losing_nothing():
        udp.lab.cluster.start_daemon(1, "--take-over")
        assert waits.wait(DEADLINE) == 1
        udp.until_ready()
    assert "answers: it hands over to another" in udp.lab.log(1)
    assert udp.lab.log(1).count(WENT_ON) == 1


@contextmanager
def hanging(it: Restarts, leaves: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """In place of the daemon of host 1 from here on."""
    path = operator_socket(it)
    old = it.lab.cluster.daemons[1].process
    with asking(it) as (connection, fds):
        connection.sendall(b"go\n")
        assert connection.recv(100) == b"gone\n"
        assert old.wait(DEADLINE) == 0
        handed = [" ".join(fds), *map(str, fds.values())]
        hangs = subprocess.Popen(
            [sys.executable, "-c", HANGS, leaves, path, *handed],
            pass_fds=list(fds.values()),
            stdout=subprocess.PIPE,
        )
    with hangs:
        try:
            assert hangs.stdout is not None
            hangs.stdout.readline()
            yield hangs
        finally:
            hangs.kill()


def take_over_from(it: Restarts, hangs: subprocess.Popen[bytes]) -> None:
    before = len(it.lab.log(1))
    it.lab.cluster.start_daemon(1, "--take-over")
    until(lambda: "ready: subnet=" in it.lab.log(1)[before:])
    it.lab.reach(1, 2)
    assert hangs.poll() is None


def test_the_old_one_does_not_end(udp: Restarts) -> None:
    """It forwards no more, so the new one does, and is a node as soon as it can be; it
    listens once the old one has ended after all."""
    with hanging(udp) as hangs:
        take_over_from(udp, hangs)
    udp.until_ready()
    until(lambda: len(udp.routes()) == 1)


def test_nobody_comes_between(udp: Restarts) -> None:
    """Who starts when the old one listens no more and the new one does not yet: one
    that would take over does so from the new one, any other ends."""
    daemons = udp.lab.cluster.daemons
    with hanging(udp, "leaves") as hangs:
        take_over_from(udp, hangs)
        new = daemons[1]
        udp.manager.forget()
        other = udp.lab.cluster.start_daemon(1).process
        until(lambda: starts_to_listen(other.pid, new.socket))
        last = udp.lab.cluster.start_daemon(1, "--take-over")
        until(lambda: new.socket.exists() or "waiting for a daemon" in udp.lab.log(1))
    assert other.wait(DEADLINE) == 1
    assert new.process.wait(DEADLINE) == 0
    udp.until_ready()
    assert last.process.poll() is None
    udp.lab.reach(1, 2)


def starts_to_listen(pid: int, path: Path) -> bool:
    """It waits for the place to be free, or listens already."""
    with suppress(FileNotFoundError):  # one that is closed meanwhile
        if str(path.parent) in map(os.readlink, Path(f"/proc/{pid}/fd").iterdir()):
            return True
    return path.exists()


def test_the_new_one_gives_up_on_a_busy_one(udp: Restarts) -> None:
    """It has said "go", but nobody heard it: the old one goes on."""
    old = udp.lab.cluster.daemons[1].process
    with asking(udp) as (connection, _):
        old.send_signal(signal.SIGSTOP)
        connection.sendall(b"go\n")
    old.send_signal(signal.SIGCONT)
    until(lambda: "it was broken off" in udp.lab.log(1))
    udp.lab.reach(1, 2)
    assert old.poll() is None
