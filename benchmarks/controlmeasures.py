"""What `flannelette bench-control` measures: a large cluster, seen by one daemon.

sync:    from the daemon's start until a packet has reached every node
change:  from the writer's call to etcd until the first packet that follows it
storm:   all leases are renewed as fast as etcd takes it, which changes nothing; what
         comes then is applied so much later
clear:   all leases end at one revision, until the last packet has gone
churn:   daemons come, renew, and come again, through the store's own code

Meanwhile a stream of packets runs through the daemon.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from flannelette.benchmarks import account, join
from flannelette.benchmarks.largecluster import LargeCluster, large_cluster
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.search import Trial
from flannelette.benchmarks.worker import LoadGenerator
from flannelette.control.lease import LeaseAttrs

FILL_SECONDS = 60.0
CHANGE_SECONDS = 10.0
"""Until a change must have been applied."""
GAP = 0.5e-3
"""Seconds between two packets to a pod whose route changes."""
CALM = 0.02
"""Seconds without a packet that tell that there are no more."""
CLEAR_SECONDS = 3.0
FEW = 10
"""Of those that end at once so many are looked at."""
STREAM_SIZE, STREAM_RATE = 1400, 20_000
"""Bytes, and packets a second: 224 Mbit/s."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure of the table."""

    backend: str
    key: str
    """In JSON."""
    about: str
    value: float
    unit: str
    limit: float | None = None
    """It must not be more."""

    @property
    def met(self) -> bool:
        return self.limit is None or self.value <= self.limit


NETWORKS: dict[str, dict[str, Any]] = {
    "udp": {"Type": "udp"},
    "vxlan": {"Type": "vxlan"},
    "kernel": {"Type": "vxlan", "Datapath": "kernel"},
}
"""The network configuration's Backend, by what it is called here."""


PROMISED = ("udp", "vxlan")
"""Those that limits are for: where we carry."""


def network(backend: str) -> dict[str, Any]:
    return {"Network": str(join.NETWORK), "Backend": NETWORKS[backend]}


class Measurement:
    """Of one backend, in a cluster of its own."""

    def __init__(
        self, backend: str, cluster: LargeCluster, load: LoadGenerator, seconds: float
    ) -> None:
        self._backend = backend
        self._cluster = cluster
        self._load = load
        self._seconds = seconds
        self._serial = 1 << 16
        """Of the addresses that were nobody's yet."""
        self._alone: set[int] = set()
        """Peers that have an etcd lease of their own by now."""
        self._random = random.Random(1)

    def sync(self, leases: int) -> Iterator[Finding]:
        it = self._cluster
        it.fill(leases, FILL_SECONDS)
        started = it.start_daemon()
        assert it.daemon is not None
        reached = join.reach(it.probe, it.peers, it.daemon)
        yield self._found("sync", "first sync", reached - started, "s", 3.0)
        now, most = _memory(it.daemon.process.pid)
        yield self._found("memory", "resident memory", now, "MB", 150.0)
        yield self._found("memory_peak", "at its peak", most, "MB", 150.0)
        yield self._found("cpu_sync", "processor time until then", self._cpu(), "s")
        it.put_up_pods()

    def changes(self) -> Iterator[Finding]:
        took: dict[str, list[float]] = {"moved": [], "removed": [], "added": []}
        with self._stream(self._seconds) as trial:
            end = time.monotonic() + self._seconds - 0.5
            while time.monotonic() < end:
                index = self._random.randrange(len(self._cluster.peers))
                took["moved"].append(self._move(index))
                took["removed"].append(self._remove(index))
                took["added"].append(self._move(index))
        for what, seconds in took.items():
            for share, name in ((0.5, "median"), (0.99, "p99")):
                limit = 50.0 if share == 0.99 else None
                value = 1e3 * quantile(seconds, share)
                key, about = f"{what}_{name}", f"a lease {what}, {name}"
                yield self._found(key, about, value, "ms", limit)
        yield self._lost("change", "packets lost meanwhile", trial[0])

    def storm(self) -> Iterator[Finding]:
        """In which nothing changes, and what comes after it."""
        it, before = self._cluster, self._cpu()
        with self._stream(self._seconds) as trial:
            seconds = it.ask(FILL_SECONDS, do="renew")["seconds"]
            late = self._move(0)
        rate = len(it.peers) / seconds
        yield self._found("renewals", "all renewed, a second", rate, "/s")
        yield self._found("backlog", "a lease moved after it", 1e3 * late, "ms")
        yield self._found(
            "cpu_storm", "processor time, streaming", self._cpu() - before, "s"
        )
        yield self._lost("storm", "packets lost meanwhile", trial[0])

    def clear(self) -> Iterator[Finding]:
        it, before = self._cluster, self._cpu()
        with self._stream(min(self._seconds, CLEAR_SECONDS)) as trial:
            it.probe.arrivals()
            started = it.ask(FILL_SECONDS, do="clear")["started"]
            shared = [
                peer.pod
                for index, peer in enumerate(it.peers)
                if index not in self._alone
            ]
            last = self._until_quiet(self._random.sample(shared, FEW), started)
        yield self._found("clear", "all ended", last - started, "s")
        yield self._found(
            "cpu_clear", "processor time, streaming", self._cpu() - before, "s"
        )
        yield self._lost("clear", "packets lost meanwhile", trial[0])

    # ---- one change ------------------------------------------------------------------

    def _move(self, index: int) -> float:
        """Another public IP; seconds until the first packet goes there."""
        it, peer = self._cluster, self._cluster.peers[index]
        self._alone.add(index)
        self._serial += 1
        public = join.PUBLIC[self._serial]
        attrs = LeaseAttrs(
            public, None, peer.lease.attrs.backend_type, peer.lease.attrs.backend_data
        )
        it.writer.tell(do="set", index=index, value=attrs.encode().decode())
        when = self._until_at(peer.pod, public)
        return when - float(it.writer.answer(CHANGE_SECONDS)["started"])

    def _until_at(self, pod: IPv4Address, public: IPv4Address) -> float:
        it, deadline = self._cluster, time.monotonic() + CHANGE_SECONDS
        while time.monotonic() < deadline:
            it.probe.send(pod)
            time.sleep(GAP)
            for arrival in it.probe.arrivals():
                if arrival.to == public:
                    return arrival.when
        raise RigError(f"a change was not applied in {CHANGE_SECONDS:.0f} s")

    def _remove(self, index: int) -> float:
        it = self._cluster
        it.probe.arrivals()
        it.writer.tell(do="remove", index=index)
        last = self._until_quiet([it.peers[index].pod], 0.0)
        return max(0.0, last - float(it.writer.answer(CHANGE_SECONDS)["started"]))

    def _until_quiet(self, pods: list[IPv4Address], last: float) -> float:
        """When the last packet arrived; `last` if none did."""
        it, deadline = self._cluster, time.monotonic() + CHANGE_SECONDS
        quiet = time.monotonic() + CALM
        while time.monotonic() < quiet:
            if time.monotonic() >= deadline:
                raise RigError(f"a change was not applied in {CHANGE_SECONDS:.0f} s")
            for pod in pods:
                it.probe.send(pod)
            time.sleep(GAP)
            for arrival in it.probe.arrivals():
                last, quiet = arrival.when, time.monotonic() + CALM
        return last

    # ---- what runs beside ------------------------------------------------------------

    @contextmanager
    def _stream(self, seconds: float) -> Iterator[list[Trial]]:
        """Packets from pod to pod beside the body; what became of them after it."""
        trial: list[Trial] = []
        one, two = self._cluster.pods
        stream = self._load.stream(one, two, STREAM_SIZE, STREAM_RATE, seconds)
        with stream as arrived:
            yield trial
            trial.append(arrived())

    def _cpu(self) -> float:
        daemon = self._cluster.daemon
        assert daemon is not None
        return account.read([daemon.process.pid], None).programs

    def _lost(self, key: str, about: str, trial: Trial) -> Finding:
        return self._found(f"{key}_loss", about, 100 * trial.loss, "%", 0.1)

    def _found(
        self,
        key: str,
        about: str,
        value: float,
        unit: str,
        limit: float | None = None,
    ) -> Finding:
        promised = self._backend in PROMISED
        return Finding(
            self._backend, key, about, value, unit, limit if promised else None
        )


def measure(
    backend: str, leases: int, seconds: float, load: LoadGenerator, directory: Path
) -> Iterator[Finding]:
    """Raises RigError, OSError."""
    with large_cluster(network(backend), directory) as cluster:
        it = Measurement(backend, cluster, load, seconds)
        yield from it.sync(leases)
        yield from it.changes()
        yield from it.storm()
        yield from it.clear()


def churn(daemons: int, directory: Path) -> Iterator[Finding]:
    """Raises RigError: also for a daemon or a watch that has missed anything."""
    with large_cluster(network("udp"), directory) as cluster:
        cluster.start_daemon()
        cluster.status()
        told = cluster.ask(FILL_SECONDS * 2, do="churn", daemons=daemons)
        deadline = time.monotonic() + CHANGE_SECONDS
        while _missed(cluster, told["leases"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        missed = _missed(cluster, told["leases"])
        joins = told["joins"]
        found = [
            ("joins", "joins a second", len(joins) / told["seconds"], "/s", None),
            ("join_p99", "a join, p99", 1e3 * quantile(joins, 0.99), "ms", None),
            ("deaf", "watches that missed something", told["deaf"], "", 0),
            ("missed", "routes that the daemon lacks", missed, "", 0),
        ]
        for key, about, value, unit, limit in found:
            yield Finding("churn", key, about, value, unit, limit)


def _missed(cluster: LargeCluster, leases: dict[str, str]) -> int:
    routes = {
        route["subnet"]: route["peer"].rpartition(":")[0]
        for route in cluster.status()["routes"]
    }
    return sum(routes.get(subnet) != public for subnet, public in leases.items())


def quantile(values: list[float], share: float) -> float:
    """The least value that so large a share does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _memory(pid: int) -> tuple[float, float]:
    """Resident memory in MB (10^6 bytes), now and at most."""
    fields = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    now, most = (
        int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM")
    )
    return now, most
