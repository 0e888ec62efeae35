"""The command line: exit codes, one line for what is wrong, and what is imported."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flannelette.control import config, operator
from flannelette.control.config import Config
from flannelette.control.errors import HostError, LeaseLost
from flannelette.control.flags import ENVIRONMENT, usage
from flannelette.control.main import main
from flannelette.control.systemd import privileges
from tests.control.test_status import DOCUMENT
from tests.helpers import uvloops
from tests.helpers.wrongflags import WRONG

Capture = pytest.CaptureFixture[str]
NETWORK = '{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}'


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT):
            monkeypatch.delenv(name)


def run_program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flannelette.control", *arguments],
        text=True,
        timeout=30,
        **options,
    )


# ---- help and version ----------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["help"], ["--help"], ["-h"]], ids=str)
def test_the_overview_lists_the_commands(argv: list[str], capsys: Capture) -> None:
    assert main(argv) == 0
    out, err = capsys.readouterr()
    for command in ("run", "status", "net-config", "demo", "version"):
        assert f"\n  {command} " in out
    assert err == ""


@pytest.mark.parametrize("argv", [["version"], ["--version"], ["-version"]], ids=str)
def test_the_version_goes_to_stdout(argv: list[str], capsys: Capture) -> None:
    assert main(argv) == 0
    assert capsys.readouterr() == (f"{config.version()}\n", "")


def test_the_version_of_run_goes_to_stderr(capsys: Capture) -> None:
    """C3, and before the environment is looked at."""
    assert main(["run", "--version"]) == 0
    assert capsys.readouterr() == ("", f"{config.version()}\n")


def test_without_an_installed_package_the_version_is_dev(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert config.version() == "dev"


def test_the_usage_of_run_goes_to_stdout(capsys: Capture) -> None:
    assert main(["run", "-h"]) == 0
    assert capsys.readouterr() == (usage() + "\n", "")


@pytest.mark.parametrize("command", ["status", "net-config"])
def test_the_other_commands_have_their_help(command: str, capsys: Capture) -> None:
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: flannelette {command}")
    assert err == ""


# ---- wrong input ---------------------------------------------------------------------


def assert_one_line(capsys: Capture, *parts: str) -> None:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flannelette: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for part in parts:
        assert part in err


@pytest.mark.parametrize(("flag", "value"), WRONG)
def test_wrong_input_for_every_flag_is_one_line(
    flag: str, value: str | None, capsys: Capture
) -> None:
    argv = [f"--{flag}"] if value is None else [f"--{flag}={value}"]
    assert main(["run", *argv]) == 2
    assert_one_line(capsys, flag)


@pytest.mark.parametrize(
    ("flag", "value"),
    # An empty variable is as good as none, and --version has none.
    [(flag, value) for flag, value in WRONG if value and flag != "version"],
)
def test_wrong_input_for_every_variable_is_one_line(
    flag: str, value: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"FLANNELD_{flag.upper().replace('-', '_')}", value)
    assert main(["run"]) == 2
    assert_one_line(capsys)


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["nope"], "unknown command: nope"),
        (["-x"], "unknown command: -x"),
        (["run", "--foo"], "unknown flag: --foo"),
        (["run", "--fo\no\x1b[2J"], r"unknown flag: --fo\no\x1b[2J"),
        (["run", "--fo\udcff"], r"unknown flag: --fo\udcff"),
        (["run", "--iface"], "flag --iface needs a value"),
        (["run", "eth0"], "unexpected argument: eth0"),
        (["version", "x"], "unexpected argument: x"),
        (["status", "--foo"], "unrecognized arguments: --foo"),
        (["status", "--js"], "unrecognized arguments: --js"),
        (["status", "--operator-socket=a", "--subnet-file=b"], "not allowed with"),
        (["net-config"], "--store"),
        (["net-config", "--store=etcd"], "--store=local:PATH"),
        (["net-config", "--store=static:x"], "--store=local:PATH"),
        (["net-config", "--store=x"], "invalid value 'x' for --store"),
    ],
)
def test_wrong_input_is_one_line(argv: list[str], part: str, capsys: Capture) -> None:
    assert main(argv) == 2
    assert_one_line(capsys, part)


def test_a_wrong_program_run_ends_the_same_way() -> None:
    done = run_program("run", "--v=x", capture_output=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "flannelette: invalid value 'x' for --v: a whole number is wanted\n"
    )


# ---- run -----------------------------------------------------------------------------


AgentFactory = Callable[[Callable[[Config], Any]], None]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> AgentFactory:
    """Puts a function in the place of the daemon, and logs as in a fresh process."""

    def replace(body: Callable[[Config], Any]) -> None:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
        monkeypatch.setattr(logging.getLogger("flannelette"), "level", logging.NOTSET)

        async def run(settings: Config, *_: object) -> None:
            result = body(settings)
            if asyncio.iscoroutine(result):
                await result

        fake = ModuleType("flannelette.control.agent")
        fake.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
        monkeypatch.setattr("flannelette.control.agent", fake, raising=False)
        monkeypatch.setattr(privileges, "give_up", lambda settings: None)  # not ours

    return replace


def test_run_runs_the_agent_on_uvloop(agent: AgentFactory, capsys: Capture) -> None:
    seen: list[Any] = []

    async def body(settings: Config) -> None:
        seen.extend([settings, type(asyncio.get_running_loop())])

    agent(lambda settings: body(settings))
    assert main(["run", "-iface", "eth7"]) == 0
    assert seen == [config.parse(["-iface", "eth7"], {}), uvloops.Loop]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (HostError("no TUN"), 1, "no TUN"),
        (LeaseLost("10.5.1.0/24 is taken"), 1, "10.5.1.0/24 is taken"),
        (OSError(errno.EPERM, "Operation not permitted"), 1, "[Errno 1] Operation"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "Broken pipe"),
    ],
    ids=str,
)
def test_an_error_of_the_agent_is_one_line(
    agent: AgentFactory, capsys: Capture, error: Exception, code: int, line: str
) -> None:
    def body(settings: Config) -> None:
        raise error

    agent(body)
    assert main(["run"]) == code
    assert_one_line(capsys, line)


def test_the_notes_of_an_oserror_stand_on_its_line(
    agent: AgentFactory, capsys: Capture
) -> None:
    def body(settings: Config) -> None:
        error = OSError(errno.EBUSY, "Device or resource busy")
        error.add_note("while opening\nthe TUN")
        error.add_note("try again")
        raise error

    agent(body)
    assert main(["run"]) == 1
    assert capsys.readouterr().err == (
        "flannelette: [Errno 16] Device or resource busy; "
        "while opening\\nthe TUN; try again\n"
    )


def test_a_fault_of_ours_is_not_hidden(agent: AgentFactory) -> None:
    agent(lambda settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["run"])


def test_an_early_interrupt_is_quiet(agent: AgentFactory, capsys: Capture) -> None:
    def body(settings: Config) -> None:
        raise KeyboardInterrupt

    agent(body)
    assert main(["run"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("verbosity", "levels"), [("0", ["INFO"]), ("1", ["DEBUG", "INFO"])]
)
def test_logs_go_to_stderr(
    agent: AgentFactory, capsys: Capture, verbosity: str, levels: list[str]
) -> None:
    def body(settings: Config) -> None:
        log = logging.getLogger("flannelette.control.agent")
        log.debug("lease: subnet=%s", "10.5.1.0/24")
        log.info("lease: subnet=%s", "10.5.1.0/24")
        logging.getLogger("pyroute2").debug("a book")

    agent(body)
    assert main(["run", "-v", verbosity]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line.split(maxsplit=3) for line in err.splitlines()]
    assert [line[0] for line in lines] == levels
    assert {line[3] for line in lines} == {"lease: subnet=10.5.1.0/24"}


# ---- status --------------------------------------------------------------------------


@contextmanager
def daemon(path: Path, document: object = DOCUMENT) -> Iterator[None]:
    """An operator socket at path, on a loop in a thread of its own."""

    async def serve() -> None:
        async with operator.serve(path, {"status": lambda: document}):
            up.set()
            await stop.wait()

    loop = asyncio.new_event_loop()
    up, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert up.wait(5)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


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
    assert_one_line(capsys, f"no daemon answers at {tmp_path}/flannelette.sock: ")


def test_a_strange_status_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    with daemon(tmp_path / "o.sock", {"version": 1}):
        assert main(["status", f"--operator-socket={tmp_path}/o.sock"]) == 1
    assert_one_line(capsys, "status is not understood")


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
    document = {**DOCUMENT, "more": "x" * 200_000}
    with daemon(path, document), open(write, "wb") as closed:
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


# ---- net-config ----------------------------------------------------------------------


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
    assert_one_line(capsys, "network config")
    assert not path.exists()


def test_showing_makes_no_store(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "store.db"
    assert main(["net-config", f"--store=local:{path}"]) == 1
    assert_one_line(capsys, f"there is no store at {path}")
    assert not path.exists()


# ---- the rest ------------------------------------------------------------------------


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
