"""What --healthz-port switches on. Its import takes a while: prometheus_client does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from flannelette.control.health import server
from flannelette.control.health.exporter import Exporter
from flannelette.control.health.figures import Figures
from flannelette.control.health.lag import Lag
from flannelette.control.health.pages import Pages
from flannelette.control.health.readiness import Verdict

log = logging.getLogger(__name__)


@asynccontextmanager
async def serve(
    address: server.Address,
    port: int,
    verdict: Callable[[], Verdict],
    figures: Callable[[Lag], Figures],
) -> AsyncIterator[None]:
    """Answer health checks and scrapes until the context ends.

    Raises OSError where it cannot listen."""
    lag = Lag()
    pages = Pages(verdict, Exporter(lambda: figures(lag)))
    async with server.serve(address, port, pages) as port:
        log.info("health: address=%s port=%d", address, port)
        watch = asyncio.create_task(lag.watch(), name="lag")
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait([watch])
