"""A lab whose first host's daemon has a service manager, and restarts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flannelette.benchmarks.restart import Prober
from flannelette.benchmarks.servicemanager import ServiceManager
from tests.helpers.lab import DEADLINE, Lab, lab
from tests.helpers.ns import until

WENT_ON = "forwarding goes on"
OF_NO_USE = "what the daemon before has left is of no use"


class Restarts:
    """Stops and starts the daemon of host 1."""

    def __init__(self, it: Lab, manager: ServiceManager) -> None:
        self.lab = it
        self.manager = manager
        self._read = 0

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Log lines from here on are those of the next daemon."""
        process = self.lab.cluster.daemons[1].process
        process.send_signal(number)
        process.wait(DEADLINE)
        self._read = len(self.lab.log(1))

    def start(self, *flags: str) -> None:
        """When this returns it is ready."""
        self.lab.cluster.start_daemon(1, *flags)
        self.until_ready()

    def until_ready(self) -> None:
        until(lambda: self.lab.is_ready(1))

    @property
    def log(self) -> str:
        """What the daemon that was started last has said."""
        return self.lab.log(1)[self._read :]

    def routes(self) -> list[str]:
        return [route["subnet"] for route in self.lab.status(1)["routes"]]

    def device(self) -> str:
        """Name and index of the TUN: another one, another index."""
        shown = self.lab.rig.run(self.lab.rig.host(1), ["ip", "-o", "link", "show"])
        (line,) = (line for line in shown.stdout.splitlines() if "flannel" in line)
        return line.split(": <")[0]

    @contextmanager
    def losing_nothing(
        self, source: int = 1, target: int = 2, version: int = 4, in_hand: int = 0
    ) -> Iterator[None]:
        """A datagram each millisecond, and all must arrive, however late, but for those
        that a daemon had in hand which is killed: at most a batch."""
        pods = self.lab.pods
        with Prober(self.lab.rig, pods[source], pods[target], version) as prober:
            yield
        probed = prober.result()
        assert 0 <= probed.sent - probed.received <= in_hand
        assert probed.sent > 100


@contextmanager
def restarts(directory: Path, **options: Any) -> Iterator[Restarts]:
    """Two hosts, as of lab()."""
    with (
        lab(directory, **options) as it,
        ServiceManager(it.rig, directory / "m") as manager,
    ):
        it.cluster.managers[1] = manager
        it.up()
        yield Restarts(it, manager)
