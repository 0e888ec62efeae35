"""Programs whose time of day a test sets, by libfaketime.

    clock = Clock(tmp_path / "clock")
    process = subprocess.Popen(clock.command(["date"]))
    clock.set(-3600)

It stands before libc and answers clock_gettime(CLOCK_REALTIME), gettimeofday and time
to the program and to every library in it. Nobody can set the machine's own clock for
one process: a time namespace has only the others (time_namespaces(7)).

Clocks that nobody can set stay as they are: libfaketime would make wall clocks of them,
and the waits of Python's locks, which it does not know, would never end. Nor does it
know waits by futex(2); gRPC's are for so long, and not until a time of day.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

_PLACES = (Path("/usr").glob(f"{lib}/faketime") for lib in ("lib/*", "lib64", "lib"))
_FOUND = (it / "libfaketimeMT.so.1" for places in _PLACES for it in places)
LIBRARY = next(filter(Path.exists, _FOUND), None)
"""With locks, for programs with threads."""

needs_faketime = pytest.mark.skipif(
    LIBRARY is None, reason="needs libfaketime: install Debian's package faketime"
)


class Clock:
    """By how much it is wrong."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, seconds: int) -> None:
        """From now on, and at once."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)  # it reads whenever it is asked

    def command(self, command: Sequence[str]) -> tuple[str, ...]:
        """To run that one by this clock."""
        return (
            "env",
            f"LD_PRELOAD={LIBRARY}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            *command,
        )
