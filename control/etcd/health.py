"""How the watch of etcd fares: for `status` at once, and for the log in few words.

The log tells of an outage when the first try to end it has failed, with the reason of
that: what broke the watch is often no more than "socket closed", and where another
server takes it at once there was no outage. A reason that shows later and stays is told
as well, each once. An outage is over when the watch has stood for a while: servers that
elect a leader take watches and end them again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter

from flannelette.control.errors import StoreError
from flannelette.control.store import Contact

log = logging.getLogger(__name__)

STEADY = 3.0
"""Seconds that a watch must stand until its outage is over; a server without a leader
ends its streams after three of its election time-outs, of a second each."""
STAYS = 3
"""As many tries must fail for a reason that is told besides the first."""
REASONS = 20
"""Looked at in one outage at most."""


class Health:
    """Of all watches of a store, one at a time."""

    def __init__(self) -> None:
        self.connected: bool | None = None
        """None before the first watch."""
        self.revision = 0
        self.resyncs = 0
        self.error: str | None = None
        self.contact = Contact()
        self._outage: _Outage | None = None
        self._steady: asyncio.TimerHandle | None = None

    def up(self) -> None:
        """The watch stands, or goes on."""
        self.connected, self.error = True, None
        self.contact.heard()
        if self._outage is not None and self._steady is None:
            self._outage.stood = time.monotonic()
            loop = asyncio.get_running_loop()
            self._steady = loop.call_later(STEADY, self._over)

    def down(self, error: StoreError) -> None:
        """It has ended, or could not be begun."""
        self.connected, self.error = False, str(error)
        self.contact.lost()
        self.close()
        if self._outage is None:
            self._outage = _Outage(str(error))
        else:
            self._outage.goes_on(str(error))

    def close(self) -> None:
        """No watch stands now."""
        if self._steady is not None:
            self._steady.cancel()
            self._steady = None

    def _over(self) -> None:
        assert self._outage is not None
        self._outage.over(self.revision)
        self._outage = self._steady = None


class _Outage:
    """What the log has been told of one."""

    def __init__(self, cause: str) -> None:
        self.stood = 0.0
        self._began = time.monotonic()
        self._cause = cause
        self._met: Counter[str] = Counter()
        self._told: set[str] = set()

    def goes_on(self, error: str) -> None:
        reason = re.sub(r"^\S+:\d+: ", "", error)  # whichever server it was
        if not self._told:
            log.warning("etcd is not watched, trying again: error=%s", error)
            self._told.add(reason)
        elif reason not in self._told:
            if reason in self._met or len(self._met) < REASONS:
                self._met[reason] += 1
            if self._met[reason] == STAYS:
                log.warning("etcd is still not watched: error=%s", error)
                self._told.add(reason)

    def over(self, revision: int) -> None:
        seconds = self.stood - self._began
        if self._told:
            log.info("etcd is back: seconds=%.1f revision=%d", seconds, revision)
        else:
            log.info("the watch of etcd was begun again: cause=%s", self._cause)
