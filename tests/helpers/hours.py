"""The daemon, for which hours pass when a test says so: hours.py FILE run --flags

FILE holds the seconds by which its steady clocks are ahead. They cannot be set for one
process, nor does libfaketime move them without breaking waits; so what is moved is
what the daemon's own code asks. Timers run as ever; and it looks at its lease not once
a minute, but all the time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

STEADY = (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)
LOOK = 0.2
"""Seconds."""


def run(file: Path) -> int:
    """Be the daemon."""
    monotonic, clock_gettime = time.monotonic, time.clock_gettime

    def ahead() -> float:
        return float(file.read_text())

    time.monotonic = lambda: monotonic() + ahead()
    time.clock_gettime = lambda clock: (
        clock_gettime(clock) + (ahead() if clock in STEADY else 0.0)
    )
    from flannelette.control import keeper
    from flannelette.control.main import main

    keeper.LOOK = LOOK
    return main()


def passed(file: Path, hours: float) -> None:
    """Since the daemon was started, by its clocks."""
    new = file.with_suffix(".new")
    new.write_text(str(hours * 3600))
    new.replace(file)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv.pop(1))))
