"""The asking side, against daemons that are not ours."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from flannelette.control.errors import HostError
from flannelette.control.operator import client
from flannelette.control.operator.client import ask
from tests.helpers.operators import leave_dead
from tests.helpers.watched import strange_daemon


def test_no_daemon_is_one_line(path: Path) -> None:
    with pytest.raises(HostError) as caught:
        ask(path, "status")
    assert str(caught.value) == (
        f"no daemon answers at {path}: No such file or directory"
    )
    leave_dead(path)
    with pytest.raises(HostError, match=r"no daemon answers at .*: Connection refused"):
        ask(path, "status")
    with pytest.raises(HostError, match=r"no daemon answers at .*: .*too long"):
        ask(Path("/" + "x" * 200), "status")


def test_a_frozen_daemon_is_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "DEADLINE", 0.05)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(path))
        frozen.listen()
        with pytest.raises(HostError, match=r"no daemon answers at .*: timed out"):
            ask(path, "status")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "is no flannelette"),
        (b"HTTP/1.1 400 Bad Request\r\n", "is no flannelette"),
        (b"\xff\xff", "is no flannelette"),
        (b"[1]", r"answers: \[1\]"),
        (b'{"error": "no"}', "answers: no"),
    ],
)
def test_a_strange_answer_is_one_line(path: Path, answer: bytes, message: str) -> None:
    path.parent.mkdir()
    with strange_daemon(path, answer), pytest.raises(HostError, match=message):
        ask(path, "status")
