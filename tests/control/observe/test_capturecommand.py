"""`flannelette capture`: what it asks the daemon for, where it writes, and what goes
wrong, in one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flannelette.control.main import main
from flannelette.control.observe.capture import SNAP
from flannelette.control.observe.protocol import HEADER
from flannelette.dataplane.forwarder import EventKind, Watch
from tests.helpers.commandline import Capture
from tests.helpers.eventrecords import encode, event, tx
from tests.helpers.tshark import dissect, needs_tshark
from tests.helpers.watched import (
    GOOD,
    PING,
    FakeForwarder,
    assert_one_line,
    strange_daemon,
    watched_daemon,
    with_bytes,
)


def test_what_is_wanted_of_the_daemon(path: Path) -> None:
    fake = FakeForwarder([event(EventKind.READ, data=PING)])
    argv = [f"--operator-socket={path}", f"-w={os.devnull}", "--count=1"]
    with watched_daemon(path, fake):
        assert main(["capture", *argv]) == 0
    assert fake.watches == [Watch((), SNAP, 0b1100011001)]


# ---- what goes wrong -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["-w", "x", "icmp", "andx"], "invalid filter 'icmp andx': "),
        (["icmp"], "-w"),
        (["-w", "x", "--count=-1"], "no whole number from 0 on"),
        (["-w", "x", "--snap=all"], "no whole number from 0 on"),
        (["-w", "x", "--what"], "unrecognized arguments: --what"),
    ],
)
def test_wrong_arguments_are_one_line(
    argv: list[str], part: str, capsys: Capture
) -> None:
    assert main(["capture", *argv]) == 2
    assert_one_line(capsys, part)


def test_no_daemon_is_one_line_and_no_file(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "file"
    argv = [f"--operator-socket={tmp_path / 'o'}", "-w", str(file)]
    assert main(["capture", *argv]) == 1
    assert_one_line(capsys, "no daemon answers at")
    assert not file.exists()


def test_a_refusal_is_one_line_and_no_file(path: Path, capsys: Capture) -> None:
    fake = FakeForwarder()
    fake.refusal = OSError(errno.ENOTSUP, "not supported")
    file = path.with_name("file")
    with watched_daemon(path, fake):
        argv = [f"--operator-socket={path}", "-w", str(file)]
        assert main(["capture", *argv]) == 1
    assert_one_line(capsys, "--datapath=python cannot be watched")
    assert not file.exists()


@pytest.mark.parametrize(
    ("file", "parts"),
    [
        ("/dev/full", ["No space left on device", "while writing /dev/full"]),
        ("/proc/no/file", ["No such file or directory", "/proc/no/file"]),
        ("/proc", ["Is a directory", "/proc"]),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line(
    path: Path, file: str, parts: list[str], capsys: Capture
) -> None:
    fake = FakeForwarder([event(EventKind.READ, data=PING)])
    with watched_daemon(path, fake):
        assert main(["capture", f"--operator-socket={path}", "-w", file]) == 1
    assert_one_line(capsys, *parts)
    assert fake.unwatched == 1


def test_a_disk_that_is_full_later_is_one_line(path: Path, capsys: Capture) -> None:
    """More than a file object buffers."""
    many = [event(EventKind.READ, data=bytes(10_000)) for _ in range(100)]
    with watched_daemon(path, FakeForwarder([], [], many)):
        assert main(["capture", f"--operator-socket={path}", "-w", "/dev/full"]) == 1
    assert_one_line(capsys, "No space left on device")


@needs_tshark
def test_the_daemons_end_is_one_line_after_what_there_was(
    path: Path, capsys: Capture
) -> None:
    records = encode(with_bytes(tx(PING)))
    file = path.with_name("file")
    with strange_daemon(path, GOOD + HEADER.pack(0, 0, 0, len(records), 7) + records):
        assert main(["capture", f"--operator-socket={path}", "-w", str(file)]) == 1
    err = capsys.readouterr().err
    assert "\n2 packets written, 7 events lost\n" in err
    assert err.endswith("\nflannelette: the daemon has ended the watching\n")
    assert len(dissect(file, "frame.number")) == 2


# ---- stdout --------------------------------------------------------------------------


def program(path: Path, *flags: str) -> list[str]:
    argv = ["capture", f"--operator-socket={path}", *flags]
    return [sys.executable, "-m", "flannelette.control", *argv]


@needs_tshark
def test_a_capture_can_be_piped(path: Path) -> None:
    fake = FakeForwarder(with_bytes(tx(PING)))
    with watched_daemon(path, fake):
        done = subprocess.run(
            program(path, "-w", "-", "--count=2"), capture_output=True, timeout=30
        )
    assert done.returncode == 0
    assert dissect(done.stdout, "frame.interface_name") == [["flannel0"], ["underlay"]]


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        (lambda: os.open("/dev/full", os.O_WRONLY), 1, "No space left on device"),
        (lambda: closed_pipe(), 141, ""),
    ],
    ids=["full", "closed"],
)
def test_a_stdout_that_takes_nothing(
    path: Path, target: Callable[[], int], code: int, said: str
) -> None:
    fake = FakeForwarder(with_bytes(tx(PING)))
    out = target()
    with watched_daemon(path, fake):
        done = subprocess.run(
            program(path, "-w", "-"),
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    os.close(out)
    assert done.returncode == code
    assert done.stderr.count("\n") == bool(said)
    assert said in done.stderr


def closed_pipe() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


def test_a_capture_is_not_shown_on_a_terminal(
    path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["capture", f"--operator-socket={path}", "-w", "-"]) == 2
    assert_one_line(capsys, "not for a terminal")
