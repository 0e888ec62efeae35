"""A forwarder that has only events, and a daemon that has only that forwarder; and what
is said of them."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP

from flannelette.control.observe import watching
from flannelette.control.observe.capture import KINDS
from flannelette.control.observe.events import Event
from flannelette.control.observe.protocol import Own
from flannelette.control.observe.watching import Ring
from flannelette.dataplane.forwarder import Told, Watch
from tests.helpers.eventrecords import encode
from tests.helpers.operators import served

OWN = Own("flannel0", 1472, "192.0.2.1", "2001:db8::1", 8285, False)

GOOD = (
    b'{"device":"flannel0","mtu":1472,"address":"192.0.2.1","address6":null,'
    b'"port":8285,"vxlan":false}\n'
)
"""The first line of an answer."""

PING = bytes(IP(src="10.5.1.2", dst="10.5.2.2") / ICMP(id=3, seq=4) / bytes(56))
PING_LINE = "ICMP 10.5.1.2 > 10.5.2.2 echo-request 0 id=3 seq=4"


def with_bytes(events: list[Event]) -> list[Event]:
    """Those of them that a capture asks for."""
    return [each for each in events if each.kind in KINDS]


class FakeForwarder:
    """Gives each of its rounds to one call of watched(), and then nothing."""

    def __init__(self, *rounds: Iterable[Event]) -> None:
        self.rounds = deque(list(each) for each in rounds)
        self.lost: dict[Ring, int] = {}
        """Told from the next round on."""
        self.watches: list[Watch] = []
        self.unwatched = 0
        self.refusal: OSError | None = None

    def watch(self, watch: Watch) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.watches.append(watch)

    def unwatch(self) -> None:
        self.unwatched += 1

    def watched(self) -> list[Told]:
        rings: dict[Ring, list[Event]] = {ring: [] for ring in self.lost}
        for event in self.rounds.popleft() if self.rounds else ():
            rings.setdefault((event.queue, event.direction), []).append(event)
        return [
            Told(*ring, encode(events), self.lost.get(ring, 0))
            for ring, events in rings.items()
        ]


@contextmanager
def watched_daemon(path: Path, fake: FakeForwarder, own: Own = OWN) -> Iterator[None]:
    """Answers `watch` at path, from a thread of its own."""
    with served(path, {}, {"watch": partial(watching.watch, fake, own)}):
        yield


@contextmanager
def strange_daemon(path: Path, answer: bytes) -> Iterator[None]:
    """Answers one client with these bytes."""

    def answered() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(1 << 17)
            client.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=answered)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def assert_one_line(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    """There is one error, with these parts, at the end of stderr; stdout is empty."""
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("flannelette: ")]
    assert (out, len(errors)) == ("", 1)
    assert err.endswith(errors[0] + "\n")
    for part in parts:
        assert part in errors[0]
