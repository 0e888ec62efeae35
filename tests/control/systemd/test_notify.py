"""What the service manager hears, at a real socket (sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flannelette.control.systemd import notify
from flannelette.control.systemd.notify import Notifier


@contextmanager
def _manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address)
        heard.settimeout(5)
        yield heard


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


def test_lines_are_one_datagram(address: str) -> None:
    with _manager(address) as heard:
        Notifier(address).send("READY=1", "STATUS=10 peers — all well")
        expected = "READY=1\nSTATUS=10 peers — all well"
        assert heard.recv(4096).decode() == expected


def test_an_abstract_name_begins_with_an_at() -> None:
    name = f"flannelette-test-{os.getpid()}"
    with _manager("\0" + name) as heard:
        Notifier("@" + name).send("READY=1")
        assert heard.recv(4096) == b"READY=1"


def test_descriptors_ride_along(address: str) -> None:
    reader, writer = os.pipe()
    with _manager(address) as heard:
        Notifier(address).send("FDSTORE=1", "FDNAME=pipe", fds=[writer])
        os.close(writer)
        message, fds, _, _ = socket.recv_fds(heard, 4096, 4)
    assert message == b"FDSTORE=1\nFDNAME=pipe"
    (fd,) = fds
    os.write(fd, b"through")
    os.close(fd)
    assert os.read(reader, 100) == b"through"
    os.close(reader)


def test_a_text_cannot_add_lines(address: str) -> None:
    with _manager(address) as heard:
        Notifier(address).send("STATUS=error: oh\nMAINPID=1")
        assert heard.recv(4096) == b"STATUS=error: oh MAINPID=1"


def test_from_the_environment_and_out_of_it() -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    notifier = Notifier.from_environ(environ)
    assert (notifier.enabled, notifier.watchdog) == (True, 3.0)
    assert environ == {"PATH": "/bin"}


def test_without_a_manager_nothing_is_sent() -> None:
    notifier = Notifier.from_environ({"WATCHDOG_USEC": "3000000"})
    assert (notifier.enabled, notifier.watchdog) == (False, None)
    notifier.send("READY=1")


@pytest.mark.parametrize("value", ["vsock:2:1234", "relative", "/", "@"])
def test_an_unknown_kind_of_socket_is_said(
    value: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not Notifier.from_environ({"NOTIFY_SOCKET": value}).enabled
    assert repr(value) in caplog.text


@pytest.mark.parametrize(
    ("period", "meant", "seconds"),
    [
        ("500000", "", 0.5),
        ("500000", "1", None),  # for another process
        ("", "", None),
    ],
)
def test_whose_watchdog(period: str, meant: str, seconds: float | None) -> None:
    environ = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": period, "WATCHDOG_PID": meant}
    assert Notifier.from_environ(environ).watchdog == seconds


@pytest.mark.parametrize("period", ["0", "-5", "soon", "1.5", "²", "9" * 5000])
def test_a_strange_watchdog_is_said(
    period: str, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": period}
    assert Notifier.from_environ(environ).watchdog is None
    assert repr(period) in caplog.messages[0]


@pytest.mark.parametrize("wrong", ["absent", "x" * 200])
def test_that_nobody_hears_is_said_once(
    wrong: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(tmp_path / wrong))
    notifier.send("READY=1")
    notifier.send("WATCHDOG=1")
    assert [it.levelno for it in caplog.records] == [logging.WARNING]


def test_it_is_said_again_after_it_worked(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(address)
    notifier.send("WATCHDOG=1")
    with _manager(address):
        notifier.send("WATCHDOG=1")
    Path(address).unlink()
    notifier.send("WATCHDOG=1")
    assert len(caplog.records) == 2


def test_a_manager_that_reads_nothing_stops_nobody(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notify, "PATIENCE", 0.01)
    notifier = Notifier(address)
    with _manager(address):
        for _ in range(10_000):  # beyond what any queue holds
            notifier.send("x" * 1000)
            if caplog.records:
                break
    assert "timed out" in caplog.text
