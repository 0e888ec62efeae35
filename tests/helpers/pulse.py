"""Packets that go from pod to pod and back all the time, while a test breaks things."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.helpers.datagrams import pod_sockets
from tests.helpers.lab import Lab
from tests.helpers.ns import until

INTERVAL = 0.005
"""Seconds between two packets."""
LATE = 5.0
"""Seconds for the last answers."""


class Pulse:
    """Numbered datagrams, each of which is sent back."""

    def __init__(self, sender: socket.socket, receiver: socket.socket) -> None:
        self._sender, self._receiver = sender, receiver
        self._stop = threading.Event()
        self._sent = 0
        self._answered: set[int] = set()
        self._excused: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="pulse")
        self._thread.start()

    def goes_on(self, packets: int = 40) -> None:
        """Wait for so many more answers."""
        wanted = len(self._answered) + packets
        until(lambda: len(self._answered) >= wanted)

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """What is sent meanwhile may be lost, until answers come again."""
        first = self._sent
        yield
        self.goes_on()
        self._excused |= set(range(first, self._sent))

    def end(self) -> None:
        """Fails unless everything that was sent came back."""
        self._stop.set()
        self._thread.join()
        lost = sorted(set(range(self._sent)) - self._answered - self._excused)
        assert not lost, f"lost {len(lost)} of {self._sent}: {lost[:20]}"

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._receiver, selectors.EVENT_READ, self._send_back)
            selector.register(self._sender, selectors.EVENT_READ, self._note)
            while not self._stop.is_set():
                self._sender.send(self._sent.to_bytes(8, "big"))
                self._sent += 1
                self._look(selector, time.monotonic() + INTERVAL)
            deadline = time.monotonic() + LATE
            while len(self._answered) < self._sent and time.monotonic() < deadline:
                self._look(selector, time.monotonic() + INTERVAL)

    def _look(self, selector: selectors.BaseSelector, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                key.data()

    def _send_back(self) -> None:
        data, address = self._receiver.recvfrom(2048)
        self._receiver.sendto(data, address)

    def _note(self) -> None:
        self._answered.add(int.from_bytes(self._sender.recv(2048), "big"))


@contextmanager
def pulse(it: Lab, source: int = 1, target: int = 2) -> Iterator[Pulse]:
    """For as long as the `with` lasts; at its end nothing must be lost."""
    with pod_sockets(it, source, target) as (sender, receiver):
        beat = Pulse(sender, receiver)
        try:
            yield beat
        except BaseException:
            beat._stop.set()
            beat._thread.join()
            raise
        beat.end()
