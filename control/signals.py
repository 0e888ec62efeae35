"""What signals do to a daemon (C6)."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ending(stop: asyncio.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`; a second one kills. SIGQUIT does so after it has
    shown on stderr what every thread was doing."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        for number in _ENDING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in _ENDING:
        loop.add_signal_handler(number, on_signal)
    if sys.stderr is not None:  # None: the process was started without
        faulthandler.register(signal.SIGQUIT, chain=True)
    try:
        yield
    finally:
        faulthandler.unregister(signal.SIGQUIT)
        for number in _ENDING:
            loop.remove_signal_handler(number)


@contextmanager
def handled(number: int, handler: Callable[[], None]) -> Iterator[None]:
    """Call the handler, on the loop, for each of these signals."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        loop.remove_signal_handler(number)
