"""The daemon, on a wall clock that a test sets: jumpingclock.py FILE run --flags

FILE holds the seconds by which it is wrong. Nobody can set the machine's own clock for
one process: a time namespace has the others alone (time_namespaces(7)).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace


def run(file: Path) -> int:
    """Be the daemon."""
    real = time.time
    import grpc.aio._utils as grpc_utils

    # gRPC turns a time-out into a time of day, and its C core, which has the machine's
    # own clock, back at once.
    vars(grpc_utils)["time"] = SimpleNamespace(time=real)
    time.time = lambda: real() + float(file.read_text())
    from flannelette.control.main import main

    return main()


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv.pop(1))))
