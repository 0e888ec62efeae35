"""A cluster of real daemons for integration tests, and what tests ask of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flannelette.benchmarks.cluster import Cluster
from flannelette.benchmarks.rig import Pod, Rig
from tests.helpers.ns import until

MTU = 1472
DEADLINE = 20.0


class Lab:
    """Two or more hosts with a daemon and a pod each."""

    def __init__(self, rig: Rig, directory: Path, **options: Any) -> None:
        self.rig = rig
        self.directory = directory
        self.cluster = Cluster(rig, directory, **options)
        self.pods: dict[int, Pod] = {}

    def up(self) -> None:
        """Store, daemons, pods; when this returns every pod can reach every other."""
        self.cluster.start_store(time.monotonic() + DEADLINE)
        self.cluster.start()
        self.cluster.wait_connected(time.monotonic() + DEADLINE)
        self.add_pods()

    def add_pods(self) -> None:
        for number in self.cluster.daemons:
            subnet = self.status(number)["lease"]["subnet"]
            self.pods[number] = self.rig.pod(number, subnet, MTU)

    def status(self, number: int) -> dict[str, Any]:
        status = self.cluster.daemons[number].status()
        assert status is not None
        return status

    def is_ready(self, number: int) -> bool:
        status = self.cluster.daemons[number].status()
        return status is not None and bool(status["ready"])

    def log(self, number: int) -> str:
        return (self.directory / f"h{number}" / "log").read_text()

    def drops(self, number: int, direction: str) -> dict[str, int]:
        drops = self.status(number)["counters"][direction]["drops"]
        return {reason: count for reason, count in drops.items() if count}

    def reach(self, source: int, target: int, count: int = 1) -> str:
        """Ping from pod to pod; ping's output. Fails unless every answer comes."""
        address = str(self.pods[target].address)
        command = ["ping", "-n", "-c", str(count), "-i", "0.01", "-W", "2", address]
        return self.rig.run(self.pods[source].ns, command).stdout

    def reaches(self, source: int, target: int) -> bool:
        address = str(self.pods[target].address)
        command = ["ping", "-n", "-c", "1", "-W", "1", address]
        done = self.rig.run(self.pods[source].ns, command, check=False)
        return done.returncode == 0

    def until_reaches(self, source: int, target: int, seconds: float = 20.0) -> None:
        until(lambda: self.reaches(source, target), seconds)

    def socket_in(self, ns: str, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """An IPv4 socket of a namespace."""
        with self.rig.inside(ns):
            sock = socket.socket(socket.AF_INET, kind)
        sock.settimeout(DEADLINE)
        return sock

    def capture_in(self, ns: str, device: str) -> socket.socket:
        """A packet socket that sees what passes a device, IP headers first."""
        with self.rig.inside(ns):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
            sock.bind((device, 0))
        sock.settimeout(DEADLINE)
        return sock


@contextmanager
def lab(directory: Path, hosts: int = 2, **options: Any) -> Iterator[Lab]:
    with Rig(hosts) as rig:
        it = Lab(rig, directory, **options)
        try:
            yield it
        except BaseException:
            for number in it.cluster.daemons:
                print(f"---- host {number}\n{it.log(number)}")
            raise
