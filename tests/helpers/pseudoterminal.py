"""A command on a terminal of its own: what it draws, and how it leaves the terminal."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flannelette.benchmarks.netns import tool

DEADLINE = 30.0
_ESCAPES = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")


class Terminal:
    """One end is the test's, the other the command's."""

    def __init__(self, command: Sequence[str], width: int, height: int) -> None:
        self._ours, self._its = os.openpty()
        self.resize(width, height)
        self.before = self._mode()
        self.raw = b""
        """All that was drawn so far."""
        # Not by preexec_fn: Python forks then, which runs grpc's handlers if a test
        # before has loaded it, and they may leave descriptors.
        self.process = subprocess.Popen(
            [tool("setsid"), "--ctty", *command],
            stdin=self._its,
            stdout=self._its,
            stderr=self._its,
            env={**os.environ, "TERM": "xterm-256color"},
        )

    def resize(self, width: int, height: int) -> None:
        size = struct.pack("HHHH", height, width, 0, 0)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, size)

    def _mode(self) -> list[Any]:
        return termios.tcgetattr(self._its)

    @property
    def restored(self) -> bool:
        """Is the terminal in the mode that it was in before?"""
        return self._mode() == self.before

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    @property
    def text(self) -> str:
        """What was drawn, without what steers the terminal."""
        return _ESCAPES.sub(b"", self.raw).decode(errors="replace")

    def draws(self, text: str) -> None:
        """Wait until it does, from now on."""
        done = len(self.text)
        self._until(lambda: text in self.text[done:], f"{text!r} is not drawn")

    def ends(self) -> int:
        """Wait until the command has ended; its exit code."""
        self._until(lambda: self.process.poll() is not None, "it does not end")
        self._read(0)
        return self.process.wait()

    def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Read all the time: a terminal that is full stops the command."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"{otherwise}; drawn: {self.text!r}"
            self._read(0.05)

    def _read(self, seconds: float) -> None:
        while select.select([self._ours], [], [], seconds)[0]:
            self.raw += os.read(self._ours, 65536)
            seconds = 0

    def hang_up(self) -> None:
        """As a connection that is lost does: whoever draws or reads fails from now on,
        and the session's leader gets SIGHUP."""
        for end in {self._ours, self._its} - {-1}:
            os.close(end)
        self._ours = self._its = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.hang_up()


@contextmanager
def terminal(
    command: Sequence[str], width: int = 80, height: int = 24
) -> Iterator[Terminal]:
    """The command runs until the `with` ends, or it has ended itself."""
    made = Terminal(command, width, height)
    try:
        yield made
    finally:
        made.close()
