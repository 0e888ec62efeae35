"""A large cluster of which one node is real, on a rig of three hosts.

    host 1: the daemon that is measured, on the leases of etcd; a pod
    host 2: a node that it talks to, on a static store; a pod
    host 3: etcd, the public addresses of all others, and the port that they listen on

The others are leases that a writer (controlwriter.py) puts into etcd, as many nodes
would. What leaves the overlay for them arrives at host 3, and tells what the daemon's
routes are.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from flannelette.benchmarks import join
from flannelette.benchmarks.cluster import POLL, Daemon, Program, etcd_command
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.probe import Probe
from flannelette.benchmarks.rig import Pod, Rig
from flannelette.benchmarks.worker import Worker
from flannelette.control import mac
from flannelette.control.lease import LeaseAttrs, subnet_key

START_SECONDS = 30.0
SUBNETS = {1: IPv4Network("10.0.1.0/24"), 2: IPv4Network("10.0.2.0/24")}
"""Of the real nodes; the others' follow join.FIRST."""
_MACS = {1: 4 << 40 | 1, 2: 4 << 40 | 2}
_WRITER = (sys.executable, "-m", "flannelette.benchmarks.controlwriter")
_FLAGS = ("--iptables-forward-rules=false",)
"""Nobody here has a firewall."""


@dataclass(slots=True)
class LargeCluster:
    """It is up, without leases but host 2's, and without a daemon on host 1."""

    rig: Rig
    directory: Path
    backend: str
    network: dict[str, Any]
    etcd: Program
    probe: Probe
    writer: Worker
    pods: list[Pod] = field(default_factory=list)
    peers: list[join.Peer] = field(default_factory=list)
    """Those that etcd has leases of."""
    daemon: Daemon | None = None

    def ask(self, seconds: float, **command: Any) -> Any:
        """What the writer answers within so many seconds. Raises RigError."""
        self.writer.tell(**command)
        return self.writer.answer(seconds)

    def fill(self, number: int, seconds: float) -> None:
        """So many leases of others. Raises RigError."""
        self.peers = join.make_peers(self.backend, number)
        self.ask(seconds, do="fill", backend=self.backend, peers=number)

    def start_daemon(self) -> float:
        """Start that of host 1; when that was, Unix time. Raises OSError."""
        flags = [f"--etcd-endpoints=http://{self.rig.address(3)}:2379", *_FLAGS]
        started = time.time()
        self.daemon = Daemon(self.rig, 1, self.directory / "h1", flags)
        return started

    def stop_daemon(self) -> None:
        if self.daemon is not None:
            self.rig.stop(self.daemon.process)
            self.daemon = None

    def status(self) -> dict[str, Any]:
        """The daemon's, once it is ready. Raises RigError."""
        assert self.daemon is not None
        return _ready(self.daemon)

    def put_up_pods(self) -> None:
        """On both hosts, when their daemons run. Raises RigError."""
        mtu = self.status()["node"]["mtu"]
        self.pods = [self.rig.pod(n, subnet, mtu) for n, subnet in SUBNETS.items()]


@contextmanager
def large_cluster(network: dict[str, Any], directory: Path) -> Iterator[LargeCluster]:
    """`network` is etcd's network configuration. Raises RigError, OSError."""
    backend = network["Backend"]["Type"]
    directory.mkdir()
    with ExitStack() as stack:
        rig = stack.enter_context(Rig(3))
        one, three = rig.host(1), rig.host(3)
        rig.ip(three, f"route add local {join.PUBLIC} dev lo")
        rig.ip(
            one, "route del default", f"route add {join.PUBLIC} via {rig.address(3)}"
        )
        url = f"http://{rig.address(3)}:2379"
        command = etcd_command(directory / "etcd", url)
        etcd = Program(rig, three, "etcd", command, directory / "etcd.log")
        writer = Worker([*_WRITER, three, url], "the writer")
        stack.callback(writer.end)
        probe = stack.enter_context(Probe(rig, 1, 3, join.PORTS[backend]))
        it = LargeCluster(rig, directory, backend, network, etcd, probe, writer)
        config = json.dumps(network)
        it.ask(START_SECONDS, do="begin", network=config, patience=START_SECONDS)
        _start_partner(it)
        yield it


def _start_partner(it: LargeCluster) -> None:
    """Host 2's daemon, and its lease; and what host 1's has to remember."""
    lease = _attrs(it, 2)
    it.ask(
        START_SECONDS,
        do="put",
        key=subnet_key(SUBNETS[2]),
        value=lease.encode().decode(),
    )
    for number in (1, 2):
        home = it.directory / f"h{number}"
        home.mkdir()
        subnet = SUBNETS[number]
        file = home / "subnet.env"
        file.write_text(f"FLANNEL_SUBNET={subnet[1]}/{subnet.prefixlen}\n")
        file.with_name("subnet.env.mac").write_text(mac.show(_MACS[number]))
    peers = it.directory / "peers.toml"
    peers.write_text(_static(it))
    _ready(Daemon(it.rig, 2, it.directory / "h2", [f"--store=static:{peers}", *_FLAGS]))


def _attrs(it: LargeCluster, number: int) -> LeaseAttrs:
    address = it.rig.address(number)
    if it.backend != "vxlan":
        return LeaseAttrs(
            address, backend_type="" if it.backend == "udp" else it.backend
        )
    data = f'{{"VNI":1,"VtepMAC":"{mac.show(_MACS[number])}"}}'
    return LeaseAttrs(address, backend_type="vxlan", backend_data=data)


def _static(it: LargeCluster) -> str:
    """The static store's file: JSON's strings and numbers are TOML's as well."""
    backend = it.network["Backend"]
    lines = ["[network]", f"Network = {json.dumps(it.network['Network'])}"]
    lines += ["[network.Backend]"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in backend.items()]
    for number, subnet in SUBNETS.items():
        lines += [
            "[[node]]",
            f'public-ip = "{it.rig.address(number)}"',
            f'subnet = "{subnet}"',
        ]
        if it.backend == "vxlan":
            lines.append(f'mac = "{mac.show(_MACS[number])}"')
    return "\n".join(lines)


def _ready(daemon: Daemon) -> dict[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        status = daemon.status()
        if status is not None and status["ready"]:
            return status
        time.sleep(POLL)
    raise RigError(f"{daemon.name} is not ready in time")
