"""Who carries the packets: we do (usercarrier.py), or the kernel (kernelcarrier.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Protocol

from flannelette.control.backends.backend import Routes, Subnet
from flannelette.control.lease import Lease
from flannelette.dataplane.forwarder import Forwarder, Route


class Carrier(Protocol):
    """Carries packets between our subnet and those that it has routes for.

    What can fail for a wrong setting fails when it is made, before there is a lease."""

    @property
    def due(self) -> asyncio.Event:
        """Set when reconcile() should be called at once."""

    @property
    def forwarder(self) -> Forwarder | None:
        """That of a carrier in userspace."""

    @property
    def device(self) -> str | None:
        """The device that packets enter by; None: there is none now."""

    @property
    def routes(self) -> list[Route]:
        """In order of prefix."""

    @property
    def direct(self) -> Collection[Subnet]:
        """What is reached without encapsulation, of the routes."""

    async def start(self, lease: Lease) -> None:
        """Carry, from now on; once. Raises OSError."""

    def apply(self, removed: Iterable[Subnet], added: Routes) -> None:
        """Other routes than before; removals come first. The first call tells of all
        routes there are, if there are any."""

    async def reconcile(self) -> list[str]:
        """Bring back what somebody else has changed; names each repair.

        Raises OSError, which tells of the repairs before it (tun/repairs.made_before),
        and is called again soon."""

    def close(self) -> None:
        """Carry no more. What the kernel carries, it goes on to carry (C8)."""
