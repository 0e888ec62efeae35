"""The subnet store as the agent sees it, whatever stands behind it.

A store holds the network configuration and the leases. Three kinds exist: etcd
(flannel's own), local (SQLite, one machine) and static (a file of peers). One suite,
tests/control/store_contract.py, holds each of them to what is written here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flannelette.control.lease import Event, Lease, LeaseAttrs, Subnets
from flannelette.control.netconfig import NetworkConfig

log = logging.getLogger(__name__)

LEASE_TTL = 24 * 3600
"""Seconds a lease lives unless renewed (E20)."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What an operator asks first when peers are missing."""

    kind: str
    connected: bool
    revision: int
    """The last revision seen by the watch."""
    resyncs: int
    """Snapshots after the first: how often the watch had to start over."""
    skipped: int
    """Foreign entries that are not leases."""
    error: str | None
    """Why the store is not connected, in one line."""
    outage: float
    """Seconds for which it has not been connected; 0: it is, or never was."""
    age: float | None
    """Seconds since it was heard of last, if only that there is nothing new; None:
    never."""


class Store(Protocol):
    """Where leases live. One agent uses one store, from one event loop.

    Each call may raise StoreUnavailable when the store does not answer within its
    deadline; the agent tries again later. No call waits for ever.
    """

    async def network_config(self) -> bytes:
        """The network configuration's JSON text, unparsed.

        Raises NetworkConfigError when there is none."""

    async def acquire(
        self, attrs: LeaseAttrs, config: NetworkConfig, previous: Subnets | None
    ) -> Lease:
        """Take a subnet: our own by public IP, else `previous` if free, else a free
        one at random (E13 to E17); in a dual-stack network one of each IP version. A
        race lost to another node starts over.

        Raises NoFreeSubnet."""

    async def renew(self, lease: Lease) -> Lease:
        """Write the same value again with a full TTL; a permanent lease stays so.

        Raises LeaseLost when somebody else has written or deleted it since."""

    async def reacquire(self, lease: Lease) -> Lease:
        """Take the same subnet again after our lease was revoked.

        Raises LeaseLost when another node has it by now."""

    def watch(self) -> AsyncGenerator[Event, None]:
        """A Snapshot first, then every change after it, none lost, for ever.

        Our own lease is among the events. When continuity breaks, another Snapshot
        comes. Outages are survived inside: the iterator does not end and raises
        nothing but cancellation."""

    def status(self) -> StoreStatus:
        """What the store knows of itself, without asking the server."""

    async def close(self) -> None:
        """End all calls (StoreUnavailable) and watches (their iteration ends).

        The lease stays (E23)."""


@runtime_checkable
class Reloadable(Protocol):
    """A store that can be told to look at its source again (SIGHUP)."""

    def reload(self) -> None:
        """Do it now; what is wrong is logged and not used."""


class Contact:
    """When a store was heard of, and since when it has not been."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: float | None = None
        self._lost: float | None = None

    def heard(self) -> None:
        self._heard, self._lost = self._clock(), None

    def lost(self) -> None:
        if self._lost is None:
            self._lost = self._clock()

    @property
    def outage(self) -> float:
        """As StoreStatus has it."""
        return 0.0 if self._lost is None else self._clock() - self._lost

    @property
    def age(self) -> float | None:
        """As StoreStatus has it."""
        return None if self._heard is None else self._clock() - self._heard


class Skipped:
    """Counts foreign entries that are not leases, and says each of them once (H1)."""

    def __init__(self) -> None:
        self.count = 0
        self._said: set[int] = set()

    def note(self, key: str, value: bytes, error: Exception) -> None:
        entry = hash((key, value))
        if entry in self._said:
            return
        self.count += 1
        if len(self._said) < 1000:  # a hostile writer does not get our memory
            self._said.add(entry)
            log.warning("skipped: no lease: key=%.100r error=%.200s", key, error)
