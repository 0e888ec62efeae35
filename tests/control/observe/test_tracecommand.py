"""`flannelette trace`: it shows packets until it is told to end, or says in one line
why it cannot."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flannelette.control.main import main
from flannelette.control.observe.protocol import HEADER
from flannelette.control.observe.trace import SNAP
from flannelette.dataplane.forwarder import Direction, EventKind
from tests.helpers.commandline import Capture
from tests.helpers.eventrecords import encode, event, rx, tx
from tests.helpers.terminal import Terminal
from tests.helpers.watched import (
    GOOD,
    PING,
    PING_LINE,
    FakeForwarder,
    assert_one_line,
    strange_daemon,
    watched_daemon,
)


def test_it_ends_after_so_many_packets(path: Path, capsys: Capture) -> None:
    events = [each for number in range(5) for each in tx(PING, number)]
    fake = FakeForwarder(events[:6], events[6:])
    with watched_daemon(path, fake):
        argv = [f"--operator-socket={path}", "--count=3", "icmp and host 10.5.1.2"]
        assert main(["trace", *argv]) == 0
    out, err = capsys.readouterr()
    assert [line[:5] for line in out.splitlines() if line[0] == "#"] == [
        "#1 tx",
        "#2 tx",
        "#3 tx",
    ]
    assert err == "watching flannel0; Ctrl-C ends it\n3 packets, 0 events lost\n"
    (watch,) = fake.watches
    assert len(watch.filter) > 5
    assert (watch.snap, watch.kinds) == (SNAP, 0b1111111111)


@pytest.mark.parametrize("color", [True, False])
def test_drops_are_red_on_a_terminal(
    path: Path, color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "" if color else "1")
    fake = FakeForwarder([*tx(PING)[:1], event(EventKind.DROPPED, after=1)])
    with watched_daemon(path, fake):
        assert main(["trace", f"--operator-socket={path}", "--count=1"]) == 0
    head, read, drop = terminal.getvalue().splitlines()
    assert head.startswith("\x1b[1m#1 tx") == color
    assert drop.startswith("\x1b[1;31m") == color
    assert ("\x1b" in head + read + drop) == color
    assert "\x1b" not in read


def test_documents_come_in_lines(path: Path, capsys: Capture) -> None:
    fake = FakeForwarder(tx(PING))
    fake.lost = {(0, Direction.TX): 2, (1, Direction.RX): 1}
    with watched_daemon(path, fake):
        argv = [f"--operator-socket={path}", "--count=1", "--json"]
        assert main(["trace", *argv]) == 0
    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["summary"] == PING_LINE
    assert last == {"packets": 1, "lost": 3}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well(path: Path, number: int) -> None:
    fake = FakeForwarder([*tx(PING), *rx(PING)[:2]])
    fake.lost = {(0, Direction.TX): 1234}
    command = [sys.executable, "-m", "flannelette.control", "trace", "--count=0"]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with (
        watched_daemon(path, fake),
        subprocess.Popen(
            [*command, f"--operator-socket={path}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=buffered,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline().endswith(f"{PING_LINE}\n")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.endswith("what came next is not known\n")
    assert err.endswith("\n2 packets, 1,234 events lost\n")
    assert fake.unwatched == 1


def test_its_help_is_on_stdout(capsys: Capture) -> None:
    for command in ("trace", "capture"):
        assert main([command, "--help"]) == 0
        out, err = capsys.readouterr()
        assert out.startswith(f"usage: flannelette {command}")
        assert err == ""


# ---- what goes wrong -----------------------------------------------------------------


def test_the_daemons_end_is_one_line_after_what_there_was(
    path: Path, capsys: Capture
) -> None:
    records = encode([*tx(PING), *rx(PING)[:1]])
    with strange_daemon(path, GOOD + HEADER.pack(0, 0, 0, len(records), 7) + records):
        assert main(["trace", f"--operator-socket={path}"]) == 1
    out, err = capsys.readouterr()
    assert out.endswith("what came next is not known\n")
    assert err.endswith(
        "\n2 packets, 7 events lost\nflannelette: the daemon has ended the watching\n"
    )


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["icmp andx"], "invalid filter 'icmp andx': can't parse filter"),
        (["--count=-1"], "no whole number from 0 on"),
        (["--count=٣"], "no whole number from 0 on"),
        (["--what"], "unrecognized arguments: --what"),
    ],
)
def test_wrong_arguments_are_one_line(
    argv: list[str], part: str, capsys: Capture
) -> None:
    assert main(["trace", *argv]) == 2
    assert_one_line(capsys, part)


def test_no_daemon_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    assert main(["trace", f"--operator-socket={tmp_path / 'o'}"]) == 1
    assert_one_line(capsys, "no daemon answers at")


@pytest.mark.parametrize(
    ("number", "part"),
    [
        (errno.EBUSY, "somebody watches already"),
        (errno.ENOTSUP, "--datapath=python cannot be watched"),
    ],
)
def test_a_refusal_is_one_line(
    path: Path, number: int, part: str, capsys: Capture
) -> None:
    fake = FakeForwarder()
    fake.refusal = OSError(number, os.strerror(number))
    with watched_daemon(path, fake):
        assert main(["trace", f"--operator-socket={path}"]) == 1
    assert_one_line(capsys, part)


def test_without_scapy_it_is_said_how_to_get_it(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scapy.layers.inet", None)
    from flannelette.control.observe import dissect

    dissect._layers.cache_clear()
    assert main(["trace", f"--operator-socket={tmp_path / 'o'}"]) == 1
    assert_one_line(capsys, "trace needs scapy")
