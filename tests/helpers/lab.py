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
"""Of a pod in a udp overlay."""
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
        self.start_store()
        self.connect()

    def connect(self) -> None:
        """The same on a store that is there."""
        self.cluster.start()
        self.cluster.wait_connected(time.monotonic() + DEADLINE)
        self.add_pods()

    def start_store(self) -> None:
        self.cluster.start_store(time.monotonic() + DEADLINE)

    def add_pods(self) -> None:
        for number in self.cluster.daemons:
            self.add_pod(number)

    def add_pod(self, number: int) -> None:
        status = self.status(number)
        node, lease = status["node"], status["lease"]
        mtu = min(node["mtu"], node["mtu6"] or node["mtu"])
        pod = self.rig.pod(number, lease["subnet"], mtu, lease["subnet6"])
        self.pods[number] = pod

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

    def reach(self, source: int, target: int, count: int = 1, version: int = 4) -> str:
        """Ping from pod to pod; ping's output. Fails unless every answer comes."""
        address = self.address(target, version)
        command = ["ping", "-n", "-c", str(count), "-i", "0.01", "-W", "2", address]
        return self.rig.run(self.pods[source].ns, command).stdout

    def address(self, number: int, version: int = 4) -> str:
        """A pod's address of that IP version."""
        pod = self.pods[number]
        return str(pod.address if version == 4 else pod.address6)

    def reaches(self, source: int, target: int, version: int = 4) -> bool:
        address = self.address(target, version)
        command = ["ping", "-n", "-c", "1", "-W", "1", address]
        done = self.rig.run(self.pods[source].ns, command, check=False)
        return done.returncode == 0

    def until_reaches(
        self, source: int, target: int, seconds: float = 20.0, version: int = 4
    ) -> None:
        until(lambda: self.reaches(source, target, version), seconds)

    def socket_in(
        self, ns: str, kind: int = socket.SOCK_DGRAM, family: int = socket.AF_INET
    ) -> socket.socket:
        """A socket of a namespace."""
        with self.rig.inside(ns):
            sock = socket.socket(family, kind)
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
def lab(
    directory: Path, hosts: int = 2, ipv6: bool = False, **options: Any
) -> Iterator[Lab]:
    """`ipv6`: dual stack. The other options are those of Cluster."""
    with Rig(hosts, ipv6=ipv6) as rig:
        it = Lab(rig, directory, ipv6=ipv6, **options)
        try:
            yield it
        except BaseException:
            for number in it.cluster.daemons:
                print(f"---- host {number}\n{it.log(number)}")
            raise
