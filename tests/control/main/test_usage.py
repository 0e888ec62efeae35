"""The command line: its help, its versions, and one line for what is wrong."""

from __future__ import annotations

import re

import pytest

from flannelette.control import config
from flannelette.control.flags import usage
from flannelette.control.main import main
from tests.helpers.commandline import Capture, assert_only_one_line, run_program
from tests.helpers.wrongflags import WRONG

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


COMMANDS = [
    ["status"],
    ["net-config"],
    ["docker-opts"],
    ["capture"],
    ["trace"],
    ["top"],
    ["cleanup"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_breaks_no_name_in_two(
    command: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the hyphens of FLANNEL-FWD, for one, however wide the terminal is."""
    for columns in range(40, 100):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main([*command, "--help"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert not [line for line in lines if re.search(r"\w-$", line)]


# ---- wrong input ---------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "value"), WRONG)
def test_wrong_input_for_every_flag_is_one_line(
    flag: str, value: str | None, capsys: Capture
) -> None:
    argv = [f"--{flag}"] if value is None else [f"--{flag}={value}"]
    assert main(["run", *argv]) == 2
    assert_only_one_line(capsys, flag)


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
    assert_only_one_line(capsys)


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
    assert_only_one_line(capsys, part)


def test_a_wrong_program_run_ends_the_same_way() -> None:
    done = run_program("run", "--v=x", capture_output=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "flannelette: invalid value 'x' for --v: a whole number is wanted\n"
    )
