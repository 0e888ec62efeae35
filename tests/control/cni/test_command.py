"""The CNI plugin answers whatever it is given, as a function and as a process:
flannel-behaviour.md N8; CNI 1.1."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from flannelette.control.cni.netconf import ATTACHMENTS, VERSIONS
from tests.helpers.cni import RESULT, Delegate, Host


@pytest.mark.parametrize("asked", [*VERSIONS, "9.9", None])
def test_version(host: Host, asked: str | None) -> None:
    text = json.dumps({"cniVersion": asked}).encode()
    code, said = host.call("VERSION", text)
    assert code == 0
    assert json.loads(said) == {
        "cniVersion": asked if asked in VERSIONS else "1.1.0",
        "supportedVersions": list(VERSIONS),
    }


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"\0",
        b"{}x",
        b"[" * 100_000,
        b'{"a":' * 9999,
    ],
    ids=lambda text: repr(text[:5]),
)
def test_what_is_no_configuration(host: Host, text: bytes) -> None:
    """N8."""
    for command in ("ADD", "DEL", "CHECK", "STATUS", "GC"):
        error = host.call(command, text).error
        assert error["code"] == 6
        assert error["msg"] == "failed to load flannel netconf file"


def test_input_has_an_end(host: Host) -> None:
    assert host.call("ADD", b" " * ((16 << 20) + 1)).error["code"] == 6


# ---- any bytes -----------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=10,
)
NAMES = st.sampled_from(
    "name cniVersion delegate ipam runtimeConfig prevResult type ranges routes"
    f" Name DELEGATE {ATTACHMENTS[0]}".split()
)
COMMANDS = ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary(), command=st.sampled_from([*COMMANDS, "NONE"]))
def test_any_bytes_are_answered(host: Host, text: bytes, command: str) -> None:
    answer = host.call(command, text)
    assert answer.error if answer.code else json.loads(answer.text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    members=st.dictionaries(
        NAMES, JSON | st.dictionaries(NAMES, JSON, max_size=3), max_size=4
    ),
    command=st.sampled_from(COMMANDS),
)
def test_any_shape_is_answered(
    host: Host, members: dict[str, Any], command: str
) -> None:
    """No plugin is there: what is sound so far fails then."""
    config = {**host.config(cniVersion="1.1.0"), **members}
    text = re.sub("NaN|-?Infinity", "1e999", json.dumps(config)).encode()
    answer = host.call(command, text)
    if command == "VERSION":
        assert answer.code == 0
    elif answer.code:
        assert answer.error
    else:
        assert command in ("DEL", "GC")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.binary() | st.text("FLANEL_SUBTMPQIWORKV6=/.,:0123456789\n").map(str.encode)
)
def test_any_subnet_file_is_answered(host: Host, text: bytes) -> None:
    host.subnet_file.write_bytes(text)
    assert host.call("ADD", host.config()).error["code"] == 11


# ---- the process ---------------------------------------------------------------------


def execute(host: Host, command: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "flannelette.control.cni.command"],
        env=host.environ(command),
        stderr=subprocess.PIPE,
        timeout=60,
        **how,
    )


def test_a_process(host: Host, bridge: Delegate) -> None:
    """Configuration on stdin, result on stdout, stderr silent."""
    text = json.dumps(host.config()).encode()
    done = execute(host, "ADD", input=text, stdout=subprocess.PIPE)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, RESULT, b"")
    done = execute(host, "ADD", input=b"junk", stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"")
    assert json.loads(done.stdout)["code"] == 6


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_process_without_a_standard_stream(
    host: Host, bridge: Delegate, missing: int
) -> None:
    script = f'exec "$0" "$@" {missing}<&-'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, "-m", "flannelette.control.cni.command"],
        env=host.environ("ADD"),
        input=json.dumps(host.config(dataDir="/dev/null")).encode(),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    if missing != 1:
        assert json.loads(done.stdout)["code"] == 5
    else:
        assert b"Bad file descriptor" in done.stderr


def test_nobody_takes_the_answer(host: Host, bridge: Delegate) -> None:
    text = json.dumps(host.config()).encode()
    with open("/dev/full", "wb") as full:
        done = execute(host, "ADD", input=text, stdout=full)
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


HEAVY = {"asyncio", "msgspec", "pyroute2", "grpc", "argparse", "logging", "dataclasses"}


def test_it_starts_light() -> None:
    """Of ours only what is named, and nothing of others: runtimes wait for it."""
    code = "import sys, flannelette.control.cni.command; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    assert "flannelette.control.cni.command" in modules
    assert not HEAVY & modules
    ours = {name for name in modules if name.startswith("flannelette.control.")}
    assert all(
        name.split(".")[2].startswith(("cni", "gojson", "errors")) for name in ours
    )
