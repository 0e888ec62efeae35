"""systemd's fd store: descriptors that it keeps for the next daemon.

systemd.service(5) FileDescriptorStoreMax=, sd_notify(3) FDSTORE=1, sd_listen_fds(3).
What is stored stays until it is removed or the unit stops for good, and is given to
each process that the unit starts.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Iterable, Mapping, MutableMapping

from flannelette.control.systemd.notify import Notifier

FIRST = 3
"""The first descriptor that is given (SD_LISTEN_FDS_START)."""
MOST = 4096
BARRIER = 1.0
"""Seconds in which a service manager takes notice of what it was told."""


def inherited(environ: MutableMapping[str, str]) -> list[tuple[str, int]]:
    """What the service manager gave us, by name; the caller's from here on.

    Takes the variables out of the environment, and lets no child inherit any."""
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    fds = range(FIRST, FIRST + min(int(count), MOST))
    names += [""] * (len(fds) - len(names))
    found = []
    for name, fd in zip(names, fds, strict=False):
        try:
            flags = fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:  # it promised more than it gave
            break
        fcntl.fcntl(fd, fcntl.F_SETFD, flags | fcntl.FD_CLOEXEC)
        found.append((name, fd))
    return found


class FdStore:
    """What is in the store, as far as we know: it never answers."""

    def __init__(
        self, notifier: Notifier, there: Iterable[str] = (), *, certain: bool = True
    ) -> None:
        """`there`: names that came from it, or, if that is not certain, may have."""
        self._notifier = notifier
        self._names = set(there)
        self._doubtful = set() if certain else set(self._names)

    def put(self, fds: Mapping[str, int]) -> None:
        """What is not there yet. They stay the caller's."""
        for name, fd in fds.items():
            if name in self._names - self._doubtful:
                continue
            if name in self._doubtful:
                self._notifier.send("FDSTOREREMOVE=1", f"FDNAME={name}")
                self._doubtful.discard(name)
            # FDPOLL=0: what epoll takes for an error is none of a socket's life.
            lines = ("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0")
            self._notifier.send(*lines, fds=(fd,))
            self._names.add(name)

    def remove(self, prefix: str = "") -> None:
        """All whose names begin so; when this returns, they are closed there."""
        names = {name for name in self._names if name.startswith(prefix)}
        for name in names:
            self._notifier.send("FDSTOREREMOVE=1", f"FDNAME={name}")
        self._names -= names
        if names:
            self._wait()

    def _wait(self) -> None:
        """Until all was read that was sent (sd_notify_barrier(3)): what it closes frees
        a port and the name of a device."""
        ours, its = os.pipe2(os.O_CLOEXEC)
        try:
            self._notifier.send("BARRIER=1", fds=(its,))
        finally:
            os.close(its)
        try:
            poll = select.poll()
            poll.register(ours, 0)  # POLLHUP comes unasked
            poll.poll(BARRIER * 1000)
        finally:
            os.close(ours)
