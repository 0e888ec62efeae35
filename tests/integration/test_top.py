"""`flannelette top` of a real daemon, on a real terminal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flannelette.dataplane.underlay import BUFFER_BYTES
from flannelette.tun.device import QUEUE_FRAMES
from tests.helpers.lab import Lab, lab
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.pseudoterminal import terminal

pytestmark = needs_namespaces


def as_before(raw: bytes) -> bool:
    """Is it again the usual screen that is seen, and the cursor? Sequences of xterm:
    the last h or l tells."""
    alternate, cursor = (raw.rpartition(what)[2] for what in (b"[?1049", b"[?25"))
    return alternate[:1] == b"l" and cursor[:1] == b"h"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as it:
        it.up()
        yield it


def top(it: Lab, number: int = 1) -> list[str]:
    socket = it.cluster.daemons[number].socket
    command = [sys.executable, "-m", "flannelette.control", "top"]
    return [*command, f"--operator-socket={socket}", "--interval=0.1"]


def test_it_starts_draws_and_quits_with_q(two: Lab) -> None:
    with terminal(top(two)) as screen:
        screen.draws("ready, up")
        two.reach(1, 2)
        screen.draws("192.0.2.2")
        assert not screen.restored
        screen.press("q")
        assert screen.ends() == 0
        assert screen.restored
        assert as_before(screen.raw)
        assert "Traceback" not in screen.text


def test_it_outlives_the_daemon(two: Lab) -> None:
    with terminal(top(two, 2)) as screen:
        screen.draws("ready, up")
        daemon = two.cluster.daemons[2]
        daemon.process.terminate()
        daemon.process.wait(20)
        screen.draws("no daemon answers")
        two.cluster.start_daemon(2)
        screen.draws("ready")  # what stays the same behind it is not drawn again
        screen.press("q")
        assert screen.ends() == 0


def test_a_terminal_that_is_gone_ends_it(two: Lab) -> None:
    """Such as that of a lost connection: nobody could press q any more."""
    with terminal(top(two)) as screen:
        screen.draws("ready, up")
        screen.hang_up()
        until(lambda: screen.process.poll() is not None)


def test_what_it_shows_beside_the_counters_is_in_the_status(two: Lab) -> None:
    status = two.status(1)
    (socket,) = status["sockets"]
    assert (socket["queue"], socket["version"], socket["rx_drops"]) == (0, 4, 0)
    assert 0 <= socket["rx_bytes"] < socket["rx_room"] <= 2 * BUFFER_BYTES
    assert status["tun_drops"] == 0
    daemon = two.cluster.daemons[1].process
    daemon.send_signal(signal.SIGSTOP)
    try:
        with two.socket_in(two.pods[1].ns) as sender:
            for _ in range(QUEUE_FRAMES + 1500):
                sender.sendto(b"unread", (two.address(2), 9))
    finally:
        daemon.send_signal(signal.SIGCONT)
    assert two.status(1)["tun_drops"] >= 1000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(two: Lab, number: int) -> None:
    with terminal(top(two)) as screen:
        screen.draws("ready, up")
        os.kill(screen.process.pid, number)
        assert screen.ends() == 0
        assert screen.restored
        assert as_before(screen.raw)
