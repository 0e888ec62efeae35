"""Nobody whom we know of carries the packets: the alloc backend (7.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from flannelette.control.backends.backend import Routes, Subnet
from flannelette.control.lease import Lease
from flannelette.dataplane.forwarder import Route


class NoCarrier:
    """A Carrier (carrier.py) that has nothing to do."""

    forwarder: ClassVar[None] = None
    device: ClassVar[None] = None
    direct: ClassVar[tuple[()]] = ()

    def __init__(self) -> None:
        self.due = asyncio.Event()
        self.routes: list[Route] = []

    async def start(self, lease: Lease) -> None:
        """There is nothing to start."""

    def apply(self, removed: Iterable[Subnet], added: Routes) -> None:
        """The backend makes no routes."""

    async def reconcile(self) -> list[str]:
        return []

    def close(self) -> None:
        """There is nothing to end."""
