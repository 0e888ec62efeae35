"""Daemons that do nothing for a while, so that damage can be looked at.

with paused(it, 1):
    it.rig.ip(it.rig.host(1), "route delete 10.5.2.0/24")
    assert not it.reaches(1, 2)

What a daemon repairs by itself is there again soon, and on a busy machine sooner than a
test has looked.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.helpers.lab import Lab


@contextmanager
def paused(it: Lab, *numbers: int) -> Iterator[None]:
    """Those hosts' daemons. What the kernel carries it carries meanwhile, too."""
    pids = [it.cluster.daemons[number].process.pid for number in numbers]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
