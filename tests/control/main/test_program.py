"""The program as a whole: a stdout that takes nothing, and what is imported when."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from flannelette.control.main import main
from tests.helpers import statusdocuments
from tests.helpers.commandline import run_program
from tests.helpers.operators import served

# ---- stdout --------------------------------------------------------------------------


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def buffering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)


@pytest.mark.usefixtures("buffering")
@pytest.mark.parametrize(
    "argv", [["status"], ["status", "--json"], ["help"], ["run", "--help"]], ids=str
)
def test_a_closed_pipe_is_quiet(tmp_path: Path, argv: list[str]) -> None:
    """flannelette status --json | head -1"""
    read, write = os.pipe()
    os.close(read)
    path = tmp_path / "o.sock"
    if argv[0] == "status":
        argv = [*argv, f"--operator-socket={path}"]
    document = statusdocuments.document(more="x" * 200_000)
    with served(path, {"status": lambda: document}), open(write, "wb") as closed:
        done = run_program(*argv, stdout=closed, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.usefixtures("buffering")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = run_program("help", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "flannelette: [Errno 28] No space left on device\n"


def test_no_stdout_at_all_is_no_fault() -> None:
    command = f'"{sys.executable}" -m flannelette.control version >&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")


# ---- imports -------------------------------------------------------------------------


def test_demo_gets_the_rest_and_gives_the_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[list[str]] = []

    def demo(argv: list[str]) -> int:
        given.append(argv)
        return 7

    fake = ModuleType("flannelette.benchmarks.demo")
    fake.main = demo  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    assert main(["demo", "--nodes", "3", "-h"]) == 7
    assert given == [["--nodes", "3", "-h"]]


def test_the_daemon_imports_no_library_for_metrics_before_they_are_wanted() -> None:
    """It takes 60 ms (--healthz-port=0 is the default)."""
    look = "sys.exit('prometheus_client' in sys.modules)"
    code = f"import sys, flannelette.control.agent; {look}"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0


@pytest.mark.parametrize(
    "argv",
    [
        ["help"],
        ["version"],
        *([name, "--help"] for name in ("run", "status", "top", "trace", "capture")),
    ],
    ids=str,
)
def test_a_command_imports_only_what_it_needs(argv: list[str]) -> None:
    code = (
        "import sys; from flannelette.control.main import main; main(sys.argv[1:]); "
        "heavy = {'uvloop', 'grpc', 'pyroute2', 'cffi', 'sqlite3'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
