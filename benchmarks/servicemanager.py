"""A service manager for one daemon of a cluster: what systemd does for it, and no more.

It listens to what the daemon tells (sd_notify(3)), keeps the descriptors that it is
given, and gives them to the next process that it starts (sd_listen_fds(3)).

    with ServiceManager(rig, directory) as manager:
        cluster.managers[1] = manager
        cluster.start_daemon(1)
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flannelette.benchmarks.rig import Rig

_FIRST = 3
_AWAY = 200
"""Descriptors are kept above this number, so that those of a program that starts can
be put where it looks for them."""
_BEGIN = f"""
import os, sys
for n, fd in enumerate(filter(None, sys.argv[1].split(","))):
    os.dup2(int(fd), {_FIRST} + n)
    os.close(int(fd))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""What a program's process does before it is that program."""


class ServiceManager:
    """Use it as a context manager, inside that of its rig."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        """The directory is made; it gets the socket."""
        self._rig = rig
        directory.mkdir(exist_ok=True)
        self._path = directory / "notify"
        self._lock = threading.Lock()
        self._stored: list[tuple[str, int]] = []
        self.told: dict[str, str] = {}
        """What the daemon told last, by variable."""
        self.ready = threading.Event()
        """The daemon that was started last is."""

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(os.fspath(self._path))
        self._thread = threading.Thread(target=self._listen, name="service manager")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self.forget()

    @property
    def names(self) -> list[str]:
        """Of the descriptors that are kept."""
        with self._lock:
            return sorted(name for name, _ in self._stored)

    def descriptor(self, name: str) -> int:
        """The one of that name, borrowed."""
        with self._lock:
            return dict(self._stored)[name]

    def forget(self, name: str | None = None) -> None:
        """Close what is kept, or what is of that name."""
        with self._lock:
            gone = [fd for one, fd in self._stored if name in (None, one)]
            self._stored = [(n, fd) for n, fd in self._stored if fd not in gone]
        for fd in gone:
            os.close(fd)

    # ---- as a rig, to a program ------------------------------------------------------

    def host(self, number: int) -> str:
        return self._rig.host(number)

    def popen(
        self, ns: str, command: Sequence[str | os.PathLike[str]], **options: Any
    ) -> subprocess.Popen[Any]:
        """Start the service: as Rig.popen(), but with what is kept."""
        self.ready.clear()
        with self._lock:
            stored = list(self._stored)
            env = {**(options.pop("env", None) or os.environ)}
            env |= {"NOTIFY_SOCKET": os.fspath(self._path)}
            if stored:
                env["LISTEN_FDS"] = str(len(stored))
                env["LISTEN_FDNAMES"] = ":".join(name for name, _ in stored)
            fds = [fd for _, fd in stored]
            begin = [sys.executable, "-I", "-S", "-c", _BEGIN, ",".join(map(str, fds))]
            return self._rig.popen(
                ns, [*begin, *command], env=env, pass_fds=fds, **options
            )

    # ---- what the daemon tells -------------------------------------------------------

    def _listen(self) -> None:
        while True:
            message, fds, _, _ = socket.recv_fds(self._socket, 4096, 16)
            if not message:
                return
            lines = message.decode(errors="replace").splitlines()
            told = dict(line.split("=", 1) for line in lines if "=" in line)
            self._hear(told, fds)

    def _hear(self, told: dict[str, str], fds: list[int]) -> None:
        name = told.get("FDNAME", "stored")
        if told.get("FDSTORE") == "1":
            away = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _AWAY) for fd in fds]
            with self._lock:
                self._stored += [(name, fd) for fd in away]
        if told.get("FDSTOREREMOVE") == "1":
            self.forget(name)
        for fd in fds:  # a barrier's end is just closed
            os.close(fd)
        self.told |= told
        if told.get("READY") == "1":
            self.ready.set()
