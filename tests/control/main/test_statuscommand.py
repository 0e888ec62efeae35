"""`flannelette status`: which daemon it asks, and what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flannelette.control.main import main
from tests.helpers import statusdocuments
from tests.helpers.commandline import Capture, assert_only_one_line
from tests.helpers.operators import served

DOCUMENT = statusdocuments.document(93784.5, network="10.5.0.0/16")


@contextmanager
def daemon(path: Path, document: object = DOCUMENT) -> Iterator[None]:
    """One whose status that is."""
    with served(path, {"status": lambda: document}):
        yield


def test_status_is_for_people(tmp_path: Path, capsys: Capture) -> None:
    with daemon(tmp_path / "o.sock"):
        assert main(["status", f"--operator-socket={tmp_path}/o.sock"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("flannelette 0.1.0, ready, up 1 d 2 h\n")
    assert err == ""


def test_status_is_for_programs_too(tmp_path: Path, capsys: Capture) -> None:
    """The whole document, members that we do not know included."""
    document = {**DOCUMENT, "more": [1, 2]}
    with daemon(tmp_path / "flannelette.sock", document):
        assert main(["status", "--json", f"--subnet-file={tmp_path}/subnet.env"]) == 0
    assert json.loads(capsys.readouterr().out) == document


@pytest.mark.parametrize(
    ("variable", "name"),
    [("OPERATOR_SOCKET", "flannelette.sock"), ("SUBNET_FILE", "subnet.env")],
)
def test_status_finds_the_daemon_by_its_variables(
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    name: str,
) -> None:
    monkeypatch.setenv(f"FLANNELD_{variable}", f"{tmp_path}/{name}")
    with daemon(tmp_path / "flannelette.sock"):
        assert main(["status"]) == 0
    assert "10.5.0.0/16" in capsys.readouterr().out


def test_no_daemon_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    assert main(["status", f"--subnet-file={tmp_path}/subnet.env"]) == 1
    assert_only_one_line(capsys, f"no daemon answers at {tmp_path}/flannelette.sock: ")


def test_a_strange_status_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    with daemon(tmp_path / "o.sock", {"version": 1}):
        assert main(["status", f"--operator-socket={tmp_path}/o.sock"]) == 1
    assert_only_one_line(capsys, "status is not understood")
