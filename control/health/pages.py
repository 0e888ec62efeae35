"""What the health server answers: /healthz and /readyz with flanneld's words (Z1, Z2),
and /metrics."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from flannelette.control.health.exporter import Exporter
from flannelette.control.health.http import Refused, Request, Response
from flannelette.control.health.metrics import PEERS, PEERS_MOST
from flannelette.control.health.readiness import NotReady, Verdict
from flannelette.control.text import printable

RUNNING = "flanneld is running"
READY = "flanneld is ready"
NOT_READY = "flanneld is not ready yet"


class Pages:
    """Answers requests."""

    def __init__(self, verdict: Callable[[], Verdict], exporter: Exporter) -> None:
        self._verdict = verdict
        self._exporter = exporter

    def __call__(self, request: Request) -> Response:
        """Raises Refused."""
        match request.path:
            case "/healthz":
                return Response(RUNNING.encode())
            case "/readyz":
                return readiness(self._verdict())
            case "/metrics":
                accept = request.headers.get("accept", "")
                text, media_type = self._exporter.page(accept, _peers(request))
                return Response(text, content_type=media_type)
        return Response(b"404 page not found\n", HTTPStatus.NOT_FOUND)


def readiness(verdict: Verdict) -> Response:
    """flanneld's words, and behind them a line for each reason."""
    if not isinstance(verdict, NotReady):
        return Response(READY.encode())
    reasons = map(printable, verdict.reasons.values())
    text = "".join(f"{line}\n" for line in (NOT_READY, *reasons))
    return Response(text.encode(), HTTPStatus.SERVICE_UNAVAILABLE)


def _peers(request: Request) -> int:
    """How many peers a scrape may see of those that it wants to. Raises Refused."""
    text = request.parameters.get("peers", str(PEERS))
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise Refused(HTTPStatus.BAD_REQUEST)
    return min(int(text), PEERS_MOST)
