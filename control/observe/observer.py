"""Watching, on the observer's side, in a process of its own (protocol.py)."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from select import select

import msgspec

from flannelette.control.errors import HostError
from flannelette.control.observe.events import BadEvents, Event, decode
from flannelette.control.observe.protocol import HEADER, Own, Request
from flannelette.control.operator import client
from flannelette.dataplane.forwarder import Watch

SILENCE = 1.0
"""Seconds without events after which an observer is told that there were none."""
_MOST = 1 << 28
"""Bytes of a chunk that is believed."""


@contextmanager
def observe(path: Path, watch: Watch) -> Iterator[Observer]:
    """Watch the daemon at path. Raises HostError when there is none or it refuses."""
    request = msgspec.json.encode(
        Request(list(watch.filter), watch.snap, watch.kinds)
    ).decode()
    with ExitStack() as stack:
        connection = stack.enter_context(client.connect(path, f"watch {request}"))
        stream = stack.enter_context(connection.makefile("rb", buffering=0))
        try:
            answer = stream.readline()
        except OSError as error:
            raise client.no_answer(path, error) from None
        try:
            own = msgspec.convert(client.document(path, answer), Own)
        except msgspec.ValidationError as error:
            raise HostError(f"the daemon's answer is not understood: {error}") from None
        connection.settimeout(None)
        yield Observer(own, connection)


class Observer:
    """Who hears of events."""

    def __init__(self, own: Own, connection: socket.socket) -> None:
        self.own = own
        self._connection = connection
        self._lost: dict[tuple[int, int], int] = {}
        self._finished = False

    @property
    def lost(self) -> int:
        """Events that found no room so far, over all queues and directions."""
        return sum(self._lost.values())

    def rounds(self) -> Iterator[list[Event]]:
        """Lists of events in the order of their time; empty ones after every SILENCE.
        They end some time after finish(). Raises HostError when the daemon ends them
        before."""
        while True:
            if not select([self._connection], [], [], SILENCE)[0]:
                yield []
                continue
            events = self._round()
            if events is None:
                break
            events.sort(key=attrgetter("time"))
            yield events
        if not self._finished:
            raise HostError("the daemon has ended the watching")

    def _round(self) -> list[Event] | None:
        """None: there are no more."""
        events: list[Event] = []
        more = 1
        while more:
            header = self._read(HEADER.size)
            if not header and not events:
                return None
            if len(header) < HEADER.size:
                return events
            queue, direction, more, size, lost = HEADER.unpack(header)
            if size > _MOST:
                raise BadEvents(f"a chunk of {size} bytes of events is not believed")
            records = self._read(size)
            if len(records) < size:
                return events
            events += decode(records, queue)
            self._lost[queue, direction] = lost
        return events

    def _read(self, size: int) -> bytes:
        """Fewer bytes: the daemon is gone."""
        data = bytearray()
        with suppress(ConnectionError):
            while len(data) < size:
                if not (more := self._connection.recv(size - len(data))):
                    break
                data += more
        return bytes(data)

    def finish(self) -> None:
        """Tell the daemon that this is enough. What it has still to say comes yet."""
        self._finished = True
        with suppress(OSError):  # the daemon is gone
            self._connection.shutdown(socket.SHUT_WR)


@contextmanager
def until_signalled(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` at the first SIGINT or SIGTERM; a second one ends us as ever. Only in
    the main thread."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(*_: object) -> None:
        restore()
        act()

    for number in numbers:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        restore()
