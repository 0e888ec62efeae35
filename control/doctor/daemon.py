"""The daemon that the doctor is asked about: does it answer, who is it, how was it
started? Its own flags and variables count more than those that the doctor was given:
it is the daemon that they make."""

from __future__ import annotations

import os
import re
import shlex
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from flannelette.control import config, statusdocument
from flannelette.control.config import Config
from flannelette.control.doctor.facts import Daemon
from flannelette.control.errors import ConfigError, HostError
from flannelette.control.flagvalues import Etcd
from flannelette.control.goflags import HelpWanted
from flannelette.control.operator import client

_PEERCRED = struct.Struct("=iII")
_SECRETS = ("etcd-password",)
_PROC = Path("/proc")


def find(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[Config, Daemon]:
    """The daemon, and its settings: from its process, or else as given.

    Raises ConfigError, HelpWanted or VersionWanted for what was given."""
    given = config.parse(argv, environ)
    document, error = _ask(given.operator_socket)
    pid = _listener(given.operator_socket)
    restart = _shown(["flannelette", "run", *argv])
    if pid is None:
        return given, Daemon(document, error, restart=restart)
    settings = _settings(pid) or given
    return settings, Daemon(
        document,
        error,
        pid,
        _restart(pid) or restart,
        _namespace(pid) not in (None, _namespace(os.getpid())),
        _is_stopped(pid),
    )


def _ask(path: Path) -> tuple[statusdocument.StatusDocument | None, str | None]:
    try:
        return statusdocument.parse(client.ask(path, "status")), None
    except HostError as error:
        return None, str(error)


def _listener(path: Path) -> int | None:
    """The process that listens there; None if nobody does, or we may not see it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(os.fspath(path))
        except OSError:
            return None
        found = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid: int = _PEERCRED.unpack(found)[0]
    return pid or None


def _settings(pid: int) -> Config | None:
    """As the process was given them; None if they cannot be read."""
    try:
        words = _strings(pid, "cmdline")
        pairs = (pair.partition("=") for pair in _strings(pid, "environ"))
        argv = words[words.index("run") + 1 :]
        found = config.parse(argv, {name: value for name, _, value in pairs})
        home = Path(os.readlink(_PROC / str(pid) / "cwd"))
    except (OSError, ValueError, ConfigError, HelpWanted, config.VersionWanted):
        return None
    return _seen_from(found, home)


def _seen_from(found: Config, home: Path) -> Config:
    """With the paths that its process means."""
    keyfile, certfile, cafile = (
        path and str(home / path)
        for path in (found.etcd_keyfile, found.etcd_certfile, found.etcd_cafile)
    )
    found = replace(
        found, etcd_keyfile=keyfile, etcd_certfile=certfile, etcd_cafile=cafile
    )
    if isinstance(found.store, Etcd):
        return found
    return replace(found, store=replace(found.store, path=home / found.store.path))


def _strings(pid: int, name: str) -> list[str]:
    """A file of NUL-ended strings. Raises OSError."""
    content = (_PROC / str(pid) / name).read_bytes()
    return [os.fsdecode(word) for word in content.split(b"\0")[:-1]]


def _restart(pid: int) -> str | None:
    """By its service, if it has one of its own; else by its command line."""
    with suppress(OSError):
        unit = unit_of(str(pid))
        if unit is not None and unit != unit_of("self"):
            return f"systemctl restart {unit}"
        again = _shown(_strings(pid, "cmdline"))
        return f"kill {pid} && tail -f /dev/null --pid={pid}; {again}"
    return None


def unit_of(process: str) -> str | None:
    """The system service that the process belongs to. Raises OSError."""
    text = (_PROC / process / "cgroup").read_text()
    found = re.search(r"^0::/system\.slice/(?:.*/)?([^/]+\.service)$", text, re.M)
    return found and found[1]


def _shown(words: Sequence[str]) -> str:
    """A command line, without secrets."""
    shown = []
    hide = False
    for word in words:
        name = word.lstrip("-").partition("=")[0]
        if hide:
            word = "..."
        elif word.startswith("-") and name in _SECRETS and "=" in word:
            word = f"--{name}=..."
        hide = word.startswith("-") and word.lstrip("-") in _SECRETS
        shown.append(word)
    return shlex.join(shown)


def _namespace(pid: int) -> int | None:
    """What tells its network namespace from others; None where we may not look."""
    try:
        return (_PROC / str(pid) / "ns" / "net").stat().st_ino
    except OSError:
        return None


def _is_stopped(pid: int) -> bool:
    """By a signal or a debugger."""
    with suppress(OSError):
        stat = (_PROC / str(pid) / "stat").read_text()
        return stat.rpartition(")")[2].split()[0] in "Tt"
    return False
