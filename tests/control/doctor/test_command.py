"""What the doctor prints, and how it reads a running daemon's settings."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from flannelette.control import config
from flannelette.control.doctor import command, daemon
from flannelette.control.doctor.facts import (
    Cure,
    Daemon,
    Facts,
    Finding,
    Peer,
    PeerFacts,
    Severity,
)
from flannelette.control.errors import ConfigError
from flannelette.control.flagvalues import Static
from flannelette.control.text import WIDTH
from flannelette.dataplane.asking import Answer

FACTS = Facts(config.parse([], {}), Daemon(None, "nobody answers"))
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
texts = st.lists(words, min_size=1, max_size=12).map(" ".join)
commands = st.lists(
    st.text("abcdef/-=.{}\"' :0123456789", min_size=1, max_size=40), min_size=1
).map(shlex.join)
findings = st.builds(
    Finding,
    st.just("some-check"),
    texts,
    texts,
    st.builds(Cure, commands, st.sampled_from([None, IPv4Address("192.0.2.2")])),
    st.sampled_from(Severity),
)


@given(st.lists(findings, max_size=3))
def test_lines_are_of_80_columns_but_for_long_words(found: list[Finding]) -> None:
    for line in command.render(FACTS, found).splitlines():
        longest = max(map(len, line.split()), default=0)
        assert line.isprintable()
        assert len(line) <= WIDTH or longest > WIDTH - 20 or "'" in line or '"' in line


@given(commands)
def test_a_command_can_be_pasted(curing: str) -> None:
    finding = Finding("c", "what", "why", Cure(curing))
    text = command.render(FACTS, [finding])
    _, _, rest = text.partition("     cure ")
    pasted, _, _ = rest.partition("\n\nnode ")
    joined = pasted.replace(" \\\n", " ")  # as shells do, and shlex does not
    assert shlex.split(joined) == shlex.split(curing)


def test_worst_first_and_one_command_each() -> None:
    peer = PeerFacts(
        Peer(IPv4Address("192.0.2.2"), 8285),
        (IPv4Network("10.5.2.0/24"),),
        small=Answer(0.00031, True),
        full=Answer(0.0004, True),
        needs=1500,
        overlay={IPv4Network("10.5.2.0/24"): Answer(0.0007)},
    )
    found = [
        Finding("a", "flannel0 is down", "it was cut", Cure("ip link set flannel0 up")),
        Finding(
            "b",
            "it is slow",
            "no offloads",
            Cure("flannelette doctor", IPv4Address("192.0.2.2")),
            Severity.WARNING,
        ),
    ]
    text = command.render(replace(FACTS, peers=[peer], unchecked=["a thing"]), found)
    assert (
        text
        == """\
2 findings; cure the first, then look again:

  1. ERROR flannel0 is down
     why  it was cut
     cure ip link set flannel0 up

  2. WARNING it is slow
     why  no offloads
     cure (on 192.0.2.2)
          flannelette doctor

node      no address, 1 peer
peer      192.0.2.2, answers in 0.31 ms, knows us, 1500 bytes pass, 1 of 1
          subnets answer
unchecked a thing"""
    )


# ---- the command line ----------------------------------------------------------------


def test_help_and_wrong_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"], {}) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage: flannelette doctor ")
    assert max(map(len, out.splitlines())) <= WIDTH
    for argv in (["--whatever"], ["--version"], ["--store=nothing"], ["extra"]):
        with pytest.raises(ConfigError):
            command.main(argv, {})


# ---- a running daemon's settings -----------------------------------------------------

LISTENER = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.bind(sys.argv[-1])
    sock.listen()
    print(flush=True)
    while True:
        client, _ = sock.accept()
        with client:
            if client.recv(100):
                client.sendall(b'{"error": "not today"}')
"""


@contextmanager
def pretended(
    directory: Path, *flags: str, **environ: str
) -> Iterator[tuple[Path, int]]:
    """What looks like one from outside: command line, variables, directory, socket."""
    path = directory / "s"
    argv = [sys.executable, "-c", LISTENER, "run", *flags]
    argv += ["--operator-socket", str(path)]
    with subprocess.Popen(
        argv, env=environ, cwd=directory, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield path, process.pid
        finally:
            process.kill()


def test_its_own_flags_and_variables_count(tmp_path: Path) -> None:
    flags = ["--store=static:peers.toml", "--etcd-password=hush"]
    variables = {"FLANNELD_ETCD_USERNAME": "me", "FLANNELD_OFFLOAD": "none"}
    with pretended(tmp_path, *flags, **variables) as (path, pid):
        given_flags = [f"--operator-socket={path}", "--offload=auto"]
        settings, found = daemon.find(given_flags, {})
    assert settings.store == Static(tmp_path / "peers.toml")
    assert settings.offload == frozenset()
    assert (settings.etcd_username, settings.etcd_password) == ("me", "hush")
    assert (found.pid, found.elsewhere, found.stopped) == (pid, False, False)
    assert found.error is not None
    assert "not today" in found.error
    assert found.restart.startswith(f"kill {pid} && ")
    assert "hush" not in found.restart
    assert "--etcd-password=..." in found.restart


def test_one_that_may_not_be_looked_at_is_not_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it has capabilities that we lack."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    monkeypatch.setattr(daemon, "_PROC", proc)
    with pretended(tmp_path) as (path, pid):
        _, found = daemon.find([f"--operator-socket={path}"], {})
    assert (found.pid, found.elsewhere) == (pid, False)


def test_without_one_what_was_given_counts(tmp_path: Path) -> None:
    path = tmp_path / "s"
    flags = [f"--operator-socket={path}", "--etcd-username=me", "--etcd-password", "no"]
    settings, found = daemon.find(flags, {})
    assert settings.etcd_username == "me"
    assert (found.status, found.pid) == (None, None)
    assert found.restart == (
        f"flannelette run --operator-socket={path} --etcd-username=me "
        "--etcd-password ..."
    )


def test_a_socket_that_is_no_daemon_s(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(path))
    _, found = daemon.find([f"--operator-socket={path}"], {})
    assert found.pid is None
    assert re.search("refused", found.error or "")
