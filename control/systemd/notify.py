"""What a daemon tells its service manager: sd_notify(3), without a library.

A datagram of lines NAME=value to the socket that NOTIFY_SOCKET names; descriptors ride
along (SCM_RIGHTS). Who sent it, the kernel says. Nothing ever comes back.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import MutableMapping, Sequence

log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that a message may wait for room: the manager may be busy, and the daemon has
better things to do."""
_MICROSECONDS = re.compile("[1-9][0-9]{,17}")


class Notifier:
    """The way to the service manager, if there is one."""

    def __init__(self, address: str | None = None, watchdog: float | None = None):
        """`address`: a path, or @ and an abstract name (unix(7)); None: nobody listens.

        `watchdog`: seconds in which WATCHDOG=1 is expected again; None: it is not."""
        self._address = address
        self.watchdog = watchdog if address else None
        self._failing = False

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Take NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment:
        they are for us, and not for what we start. What is not understood is logged."""
        address = environ.pop("NOTIFY_SOCKET", "")
        period = environ.pop("WATCHDOG_USEC", "")
        meant = environ.pop("WATCHDOG_PID", "")
        if not address:
            return cls()
        if not address.startswith(("/", "@")) or len(address) == 1:
            log.warning("NOTIFY_SOCKET is not understood: value=%r", address)
            return cls()
        return cls(address, _watchdog(period, meant))

    @property
    def enabled(self) -> bool:
        """Does anybody listen?"""
        return self._address is not None

    def send(self, *lines: str, fds: Sequence[int] = ()) -> None:
        """Tell it, in one datagram; the descriptors are duplicated on their way.

        Never raises: that nobody can be told is logged once, until it works again. A
        newline within a line becomes a space, or a text could add a line of its own."""
        if self._address is None:
            return
        text = "\n".join(line.replace("\n", " ") for line in lines)
        try:
            self._send(text.encode(errors="replace"), fds)
        except OSError as error:
            if not self._failing:
                log.warning("the service manager cannot be told: error=%s", error)
            self._failing = True
        else:
            self._failing = False

    def _send(self, message: bytes, fds: Sequence[int]) -> None:
        """Raises OSError."""
        address = os.fsencode(self._address or "")
        if address.startswith(b"@"):
            address = b"\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.settimeout(PATIENCE)
            way.connect(address)
            if fds:
                socket.send_fds(way, [message], list(fds))
            else:
                way.send(message)


def _watchdog(period: str, meant: str) -> float | None:
    """Seconds (sd_watchdog_enabled(3)); None: nobody waits for us, or for another."""
    if not period or meant not in ("", str(os.getpid())):
        return None
    if not _MICROSECONDS.fullmatch(period):
        log.warning("WATCHDOG_USEC is not understood: value=%r", period)
        return None
    return int(period) / 1e6
