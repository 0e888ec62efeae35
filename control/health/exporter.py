"""A scrape, written: our metrics, and the process's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from flannelette.control.health.figures import Figures
from flannelette.control.health.metrics import PEERS, families

PLAIN = "text/plain; version=0.0.4; charset=utf-8"


class Exporter:
    """Writes what a scrape asks for."""

    def __init__(self, look: Callable[[], Figures]) -> None:
        """`look` is asked once for each scrape."""
        self._look = look
        self._process = ProcessCollector(registry=None)

    def page(self, accept: str = "", peers: int = PEERS) -> tuple[bytes, str]:
        """The text and its media type, in the format that the Accept header wants:
        Prometheus' own, or OpenMetrics'. At most `peers` peers have series."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._process)
        registry.register(_Scrape(self._look(), peers))
        if _takes_openmetrics(accept):
            write: Callable[[Collector], bytes] = openmetrics.generate_latest
            return write(registry), openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(registry), PLAIN


def _takes_openmetrics(accept: str) -> bool:
    """Is it among what the header names? The library's own choose_encoder fails on
    versions that are no numbers, and gives back whatever it was sent."""
    for one in accept.split(","):
        kind, *parameters = (part.strip() for part in one.split(";"))
        versions = {it for it in parameters if it.startswith("version=")}
        if kind == "application/openmetrics-text" and versions <= {"version=1.0.0"}:
            return True
    return False


class _Scrape(Collector):
    def __init__(self, figures: Figures, peers: int) -> None:
        self._figures = figures
        self._peers = peers

    def collect(self) -> Iterator[Metric]:
        return families(self._figures, self._peers)
