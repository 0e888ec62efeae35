"""`flannelette net-config`: into a store and out of it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from flannelette.control.main import main
from tests.helpers.commandline import Capture, assert_only_one_line

NETWORK = '{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}'


def test_a_network_config_is_written_and_shown(tmp_path: Path, capsys: Capture) -> None:
    store = f"--store=local:{tmp_path}/store.db"
    assert main(["net-config", store, NETWORK]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["net-config", store]) == 0
    assert capsys.readouterr() == (f"{NETWORK}\n", "")


def test_a_network_config_may_come_from_stdin(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"--store=local:{tmp_path}/store.db"
    stdin = io.TextIOWrapper(io.BytesIO(NETWORK.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["net-config", store, "-"]) == 0
    assert main(["net-config", store]) == 0
    assert capsys.readouterr().out == f"{NETWORK}\n"


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "\udcff"),
        '{"Network": "10.5.0.0/30"}',
        '{"Network": "10.5.0.0/16", "Backend": {"Type": "wireguard"}}',
        '{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "VNI": 16777216}}',
    ],
    ids=ascii,
)
def test_a_wrong_network_config_is_not_written(
    tmp_path: Path, capsys: Capture, text: str
) -> None:
    path = tmp_path / "store.db"
    assert main(["net-config", f"--store=local:{path}", text]) == 1
    assert_only_one_line(capsys, "network config")
    assert not path.exists()


def test_showing_makes_no_store(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "store.db"
    assert main(["net-config", f"--store=local:{path}"]) == 1
    assert_only_one_line(capsys, f"there is no store at {path}")
    assert not path.exists()
