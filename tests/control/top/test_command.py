"""`flannelette top`, as far as it comes without a terminal."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from flannelette.control.errors import ConfigError, HostError
from flannelette.control.main import main
from flannelette.control.top import command, screen
from tests.helpers.pseudoterminal import terminal
from tests.helpers.terminal import Terminal

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
COMMAND = [sys.executable, "-m", "flannelette.control", "top"]


def be_on_a_terminal(monkeypatch: Patch) -> None:
    """Not a fixture: pytest sets the streams again before the test itself."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, Terminal())


def test_without_a_terminal_it_is_one_line_and_exit_2() -> None:
    done = subprocess.run(
        COMMAND, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "flannelette: top needs a terminal; flannelette status does not\n"
    )


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_each_stream_must_be_one(name: str, monkeypatch: Patch) -> None:
    """Also one that the process was started without."""
    be_on_a_terminal(monkeypatch)
    for stream in (io.StringIO(), None):
        monkeypatch.setattr(sys, name, stream)
        with pytest.raises(ConfigError, match="needs a terminal"):
            command.main([])


def test_it_must_be_one_to_draw_on(monkeypatch: Patch) -> None:
    be_on_a_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(ConfigError, match="needs a terminal"):
        command.main([])


@pytest.mark.parametrize("value", ["0", "0.09", "3601", "-1", "nan", "inf", "soon", ""])
def test_an_interval_out_of_reason_is_refused(value: str, capsys: Capture) -> None:
    assert main(["top", f"--interval={value}"]) == 2
    assert f"{value!r} is not within 0.1 to 3600" in capsys.readouterr().err


def test_flags_and_variables_say_which_daemon(monkeypatch: Patch) -> None:
    be_on_a_terminal(monkeypatch)
    asked: list[tuple[Path, float]] = []

    def watch(path: Path, interval: float) -> int:
        asked.append((path, interval))
        return 0

    monkeypatch.setattr(screen, "main", watch)
    monkeypatch.setenv("FLANNELD_OPERATOR_SOCKET", "/run/o.sock")
    for argv in (
        [],
        ["--operator-socket=/x", "--interval=0.5"],
        ["--subnet-file=/y/z"],
    ):
        assert command.main(argv) == 0
    assert asked == [
        (Path("/run/o.sock"), 1.0),
        (Path("/x"), 0.5),
        (Path("/y/flannelette.sock"), 1.0),
    ]


def test_without_textual_it_says_how_to_get_it(monkeypatch: Patch) -> None:
    be_on_a_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "textual", None)
    with pytest.raises(HostError, match="pip install 'flannelette\\[tools\\]'"):
        command.main([])


def test_help(capsys: Capture) -> None:
    assert main(["top", "--help"]) == 0
    assert "--interval SECONDS" in capsys.readouterr().out


def test_it_waits_for_a_daemon_and_leaves_no_trace(tmp_path: Path) -> None:
    flag = f"--operator-socket={tmp_path / 'none.sock'}"
    with terminal([*COMMAND, flag], 60, 10) as screen:
        screen.draws("no daemon answers")
        screen.press("q")
        assert screen.ends() == 0
        assert screen.restored
