"""What a daemon forwards with that another one has left."""

from __future__ import annotations

from flannelette.control.handover.document import Document
from flannelette.dataplane.drivers import OnError
from flannelette.dataplane.forwarder import Forwarder, Route
from flannelette.tun.device import TunDevice


class Adopted:
    """A forwarder that goes on with what another daemon left."""

    def __init__(
        self, forwarder: Forwarder, tun: TunDevice, document: Document
    ) -> None:
        """Its own from here on."""
        self.forwarder = forwarder
        self._tun: TunDevice | None = tun
        self.opened = document.opened
        self.endpoint = document.endpoint
        self.device = document.tun.name
        self._error: OSError | None = None
        self._listener: OnError | None = None

    @property
    def begun(self) -> bool:
        return self._tun is None

    def replace_routes(self, routes: list[Route]) -> None:
        """By these. Raises OSError."""
        self.forwarder.del_routes(self.forwarder.routes)
        self.forwarder.set_routes(routes)

    def begin(self) -> None:
        """Forward. Raises OSError."""
        assert self._tun is not None
        self.forwarder.start(self._tun, self.endpoint, self._on_error)
        self._tun = None  # it is the forwarder's

    def close(self) -> None:
        self.forwarder.close()
        if self._tun is not None:
            self._tun.close()

    def _on_error(self, error: OSError) -> None:
        self._error = error
        if self._listener is not None:
            self._listener(error)

    def listen(self, listener: OnError) -> None:
        """Tell the listener when a pump has ended, also if it already has."""
        self._listener = listener
        if self._error is not None:
            listener(self._error)
