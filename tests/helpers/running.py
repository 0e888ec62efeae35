"""A command of ours that runs beside the test, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from tests.helpers.ns import MARK, marked, namespaces, until

DEADLINE = 60.0


class Run:
    """A running command; out and err are what it said so far."""

    def __init__(self, directory: Path, command: Sequence[str]) -> None:
        self._directory = directory
        self.mark = uuid.uuid4().hex
        self._out, self._err = directory / "out", directory / "err"
        temporary = directory / "tmp"
        temporary.mkdir()
        environment = {**os.environ, MARK: self.mark, "TMPDIR": str(temporary)}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=err, env=environment
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def said(self, text: str) -> None:
        """Wait until it has said that."""
        until(lambda: text in self.out or self.process.poll() is not None, DEADLINE)
        assert text in self.out, self.err

    def runs(self, word: str) -> bool:
        """Does a program of it have the word in its command line?"""
        assert self.process.poll() is None, self.err
        return any(word in line for line in marked(self.mark).values())

    def end(self) -> int:
        """Wait for its end; look that nothing is left; the exit code."""
        code = self.process.wait(DEADLINE)
        assert namespaces(f"fl{self.process.pid}-") == []
        assert os.listdir(self._directory / "tmp") == []
        assert marked(self.mark) == {}
        return code


class Start(Protocol):
    """Starts the command with these flags, or another command in its place."""

    def __call__(self, *flags: str, command: Sequence[str] | None = None) -> Run: ...


@contextmanager
def starter(factory: pytest.TempPathFactory, usual: Sequence[str]) -> Iterator[Start]:
    """What still runs when the `with` ends is ended."""
    running: list[Run] = []

    def start(*flags: str, command: Sequence[str] | None = None) -> Run:
        # A short name: the operator sockets' paths must fit into 107 bytes.
        running.append(Run(factory.mktemp("r"), command or [*usual, *flags]))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(DEADLINE)
