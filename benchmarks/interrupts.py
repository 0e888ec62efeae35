"""Signals that end a program: exceptions at a safe moment, and one of them only.

Who changes the machine must undo it, however the program ends. Three things stand in
the way, and each has its answer here:

- SIGTERM and SIGHUP end a process on the spot. Between catch() and release() they
  raise SystemExit instead, as SIGINT raises KeyboardInterrupt.
- An exception in the middle of a change leaves half of it. Inside held() a signal
  waits until the change is done.
- A second Ctrl-C interrupts the cleanup that the first one began. After the first
  signal every further one is dropped inside held(), and anywhere for a second: time
  to get there. (Not for ever, for exceptions get lost, such as in a __del__.)
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNWINDING = 1.0
"""Seconds that a signal gives the program to begin with its cleanup."""

_Handler = Callable[[int, FrameType | None], object] | int | None


class _State:
    """What the handler, which can have no arguments of its own, needs to know."""

    def __init__(self) -> None:
        self.users = 0
        self.holds = 0
        self.pending: int | None = None
        self.raised: float | None = None
        """When the last signal became an exception; monotonic."""
        self.before: dict[int, _Handler] = {}


_state = _State()


def catch() -> None:
    """Turn the signals into exceptions; may be nested, as many release() end it.

    A signal that was ignored stays so. Outside the main thread, where Python can set
    no handlers, this does nothing: there no signal interrupts anything either."""
    if not _in_main_thread():
        return
    _state.users += 1
    if _state.users > 1:
        return
    _state.pending, _state.raised = None, None
    for number in SIGNALS:
        before = signal.getsignal(number)
        if before not in (signal.SIG_IGN, None):
            _state.before[number] = before
            signal.signal(number, _on_signal)


def release() -> None:
    """Undo one catch(); the last one puts the handlers back that were there."""
    if not _in_main_thread():
        return
    _state.users -= 1
    if _state.users:
        return
    for number, before in _state.before.items():
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, before)
    _state.before.clear()


@contextmanager
def held() -> Iterator[None]:
    """Let no signal interrupt the body: it is raised when the body is done."""
    if not _in_main_thread():
        yield
        return
    _state.holds += 1
    try:
        yield
    finally:
        _state.holds -= 1
        if not _state.holds and _state.pending is not None:
            _raise(_state.pending)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _state.raised is not None and (
        _state.holds or time.monotonic() < _state.raised + UNWINDING
    ):
        return
    if _state.holds:
        _state.pending = number
    else:
        _raise(number)


def _raise(number: int) -> None:
    _state.pending, _state.raised = None, time.monotonic()
    before = _state.before.get(number)
    if callable(before):
        before(number, None)  # Python's own for SIGINT, or a test runner's
    else:
        raise SystemExit(128 + number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def directory() -> Iterator[Path]:
    """A temporary directory that no signal leaves behind."""
    with held():
        made = TemporaryDirectory(prefix="fl-")
    try:
        yield Path(made.name)
    finally:
        with held():
            made.cleanup()
