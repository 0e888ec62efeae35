"""A cluster on a rig: a store, and one real daemon on each host.

    with Rig(2) as rig:
        cluster = Cluster(rig, directory, store="local")
        cluster.start()
        cluster.wait_connected(time.monotonic() + 20)

The programs run in the hosts' namespaces, log to files in the directory, and end with
the rig. The overlay is 10.5.0.0/16, in dual stack also fd00:5::/48, over flannel's udp
backend unless another is named.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal, Protocol

from flannelette.benchmarks.netns import RigError, inside, tool
from flannelette.benchmarks.rig import Rig
from flannelette.control.backends import choice
from flannelette.control.errors import ControlError, HostError, one_line
from flannelette.control.localstore import LocalStore
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.operator import client

OVERLAY = IPv4Network("10.5.0.0/16")
OVERLAY6 = IPv6Network("fd00:5::/48")
UDP: Mapping[str, Any] = {"Type": "udp"}
LAST_LINES = 12
POLL = 0.05
"""Seconds between two looks at something that will be soon."""
FLANNELETTE = (sys.executable, "-m", "flannelette.control")

StoreKind = Literal["local", "etcd", "static"]


class ProgramDied(RigError):
    """A program that should run does not; the message has its last log lines."""


class Place(Protocol):
    """Where programs are started: a rig, or a service manager on it."""

    def host(self, number: int) -> str: ...

    def popen(
        self, ns: str, command: Sequence[str | os.PathLike[str]], **options: Any
    ) -> subprocess.Popen[Any]: ...


class Program:
    """A program that is to run as long as the rig does."""

    def __init__(
        self, rig: Place, ns: str, name: str, command: Sequence[str], log: Path
    ) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as output:
            self.process = rig.popen(
                ns,
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
            )

    def check(self) -> None:
        """Raises ProgramDied."""
        code = self.process.poll()
        if code is None:
            return
        lines = self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        said = "".join(f"\n    {line}" for line in lines) or " nothing"
        how = f"exit {code}" if code >= 0 else f"signal {-code}"
        raise ProgramDied(f"{self.name} ended ({how}); the last it said:{said}")


class Daemon(Program):
    """The daemon of one host."""

    def __init__(
        self, rig: Place, number: int, directory: Path, flags: Sequence[str]
    ) -> None:
        self.number = number
        directory.mkdir(exist_ok=True)
        self.socket = directory / "flannelette.sock"
        command = [
            *FLANNELETTE,
            "run",
            "--iface=eth0",
            f"--subnet-file={directory / 'subnet.env'}",
            f"--operator-socket={self.socket}",
            *flags,
        ]
        name = f"the daemon of host {number}"
        super().__init__(rig, rig.host(number), name, command, directory / "log")

    def status(self) -> dict[str, Any] | None:
        """What it tells of itself; None while nobody answers. Raises ProgramDied."""
        self.check()
        try:
            return client.ask(self.socket, "status")
        except HostError:
            return None


class Cluster:
    """A daemon on each host of a rig that is up; files lie in the directory."""

    def __init__(
        self,
        rig: Rig,
        directory: Path,
        store: StoreKind = "local",
        datapath: str = "native",
        driver: str = "thread",
        flags: Sequence[str] = (),
        backend: Mapping[str, Any] = UDP,
        ipv6: bool = False,
    ) -> None:
        """`flags` go to every daemon, and have the last word. `backend` is as in the
        network configuration. `ipv6` is for dual stack, on a rig with IPv6."""
        self.daemons: dict[int, Daemon] = {}
        self.managers: dict[int, Place] = {}
        """Who starts a host's daemon, if it is not the rig."""
        self._rig = rig
        self._directory = directory
        self._flags = [f"--datapath={datapath}", f"--driver={driver}", *flags]
        self._store = store
        self._network: dict[str, Any] = {"Network": str(OVERLAY), "Backend": backend}
        if ipv6:
            self._network |= {"EnableIPv6": True, "IPv6Network": str(OVERLAY6)}
        self._ipv6 = ipv6
        self._etcd: Program | None = None

    @property
    def programs(self) -> Iterator[Program]:
        """All that should be running."""
        if self._etcd is not None:
            yield self._etcd
        yield from self.daemons.values()

    def check(self) -> None:
        """Raises ProgramDied for the first program that does not run any more."""
        for program in self.programs:
            program.check()

    def start_store(self, deadline: float) -> None:
        """Make the store and put the network configuration there.

        Raises RigError, OSError."""
        match self._store:
            case "local":
                path = self._directory / "store.sqlite"
                self._flags.append(f"--store=local:{path}")
                try:
                    write_network(path, self._network)
                except ControlError as error:
                    raise RigError(one_line(error)) from None
            case "etcd":
                host = self._rig.address(1)
                self._flags += ["--store=etcd", f"--etcd-endpoints=http://{host}:2379"]
                self._start_etcd(f"http://{host}:2379", deadline)
            case "static":
                path = self._directory / "peers.toml"
                path.write_text(self._peers())
                self._flags.append(f"--store=static:{path}")

    def start(self) -> None:
        """Start a daemon on every host, after start_store()."""
        for number in self._rig.numbers:
            self.start_daemon(number)

    def start_daemon(self, number: int, *flags: str) -> Daemon:
        """Start a host's daemon, for the first time or again, with flags of its own."""
        directory = self._directory / f"h{number}"
        place = self.managers.get(number, self._rig)
        daemon = Daemon(place, number, directory, [*self._flags, *flags])
        self.daemons[number] = daemon
        return daemon

    def statuses(self) -> dict[int, dict[str, Any]]:
        """What each daemon tells of itself, by host. Raises RigError."""
        statuses = {}
        for number, daemon in self.daemons.items():
            status = daemon.status()
            if status is None:
                raise RigError(f"{daemon.name} does not answer")
            statuses[number] = status
        return statuses

    def wait_connected(self, deadline: float) -> dict[int, dict[str, Any]]:
        """Wait until each daemon is ready and has a route to every other; the status
        of each, by host.

        Raises RigError when time.monotonic() reaches the deadline first."""
        while True:
            statuses = {n: daemon.status() for n, daemon in self.daemons.items()}
            lacking = {n: s for n, s in statuses.items() if not self._knows_all(s)}
            if not lacking:
                return {n: status for n, status in statuses.items() if status}
            if time.monotonic() >= deadline:
                number, status = next(iter(lacking.items()))
                raise RigError(_what_lacks(number, status, len(self.daemons) - 1))
            time.sleep(POLL)

    def _knows_all(self, status: dict[str, Any] | None) -> bool:
        if status is None or not status["ready"]:
            return False
        return len(status["routes"]) >= (len(self.daemons) - 1) * (1 + self._ipv6)

    def _peers(self) -> str:
        """The static store's file: host N has 10.5.N.0/24, and of IPv6 the subnet with
        that number."""
        lines = ["[network]", *_toml(self._network)]
        for number in self._rig.numbers:
            node = {
                "public-ip": str(self._rig.address(number)),
                "subnet": f"10.5.{number}.0/24",
            }
            if self._network["Backend"]["Type"] == "vxlan":
                node["mac"] = f"02:00:00:00:00:{number:02x}"
            if self._ipv6:
                node["public-ipv6"] = str(self._rig.address6(number))
                node["subnet6"] = f"fd00:5:0:{number:x}::/64"
            lines += ["[[node]]", *_toml(node)]
        return "\n".join(lines)

    def _start_etcd(self, url: str, deadline: float) -> None:
        command = etcd_command(self._directory / "etcd", url)
        host, log = self._rig.host(1), self._directory / "etcd.log"
        self._etcd = Program(self._rig, host, "etcd", command, log)
        config = json.dumps(self._network)
        while not self._put_into_etcd("/coreos.com/network/config", config):
            self._etcd.check()
            if time.monotonic() >= deadline:
                raise RigError("etcd does not answer in time")
            time.sleep(POLL)

    def _put_into_etcd(self, key: str, value: str) -> bool:
        """Through its JSON gateway, which needs no client; False if it is not up."""
        address = str(self._rig.address(1)), 2379
        with inside(self._rig.host(1)):
            client = socket.socket()
        with client:
            client.settimeout(1)
            connection = HTTPConnection(*address)
            connection.sock = client
            pair = {"key": key, "value": value}
            body = {name: b64encode(v.encode()).decode() for name, v in pair.items()}
            try:
                client.connect(address)
                connection.request("POST", "/v3/kv/put", json.dumps(body))
                return connection.getresponse().status == HTTPStatus.OK
            except (OSError, HTTPException):
                return False


def write_network(path: Path, network: Mapping[str, Any]) -> None:
    """Put a network configuration into a local store, as `flannelette net-config` does,
    in a fraction of the time that a program takes to start. Raises ControlError."""
    text = json.dumps(network).encode()
    choice.from_config(NetworkConfig.parse(text))
    asyncio.run(_write_network(path, text))


async def _write_network(path: Path, text: bytes) -> None:
    store = LocalStore(path)
    try:
        await store.set_network_config(text)
    finally:
        await store.close()


def etcd_command(data: Path, url: str) -> list[str]:
    """A server of its own, with its data there. Raises RigError."""
    return [
        tool("etcd"),
        "--name=rig",
        f"--data-dir={data}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=rig=http://127.0.0.1:2380",
    ]


def _toml(members: Mapping[str, Any]) -> Iterator[str]:
    """Lines of a table; its own tables are written inline."""
    for name, value in members.items():
        if isinstance(value, Mapping):
            value = f"{{ {', '.join(_toml(value))} }}"
            yield f"{name} = {value}"
        else:
            yield f"{name} = {json.dumps(value)}"


def _what_lacks(number: int, status: dict[str, Any] | None, others: int) -> str:
    if status is None:
        return f"the daemon of host {number} does not answer in time"
    error = status.get("last_error")
    why = f": {error}" if error else ""
    known = len(status["routes"])
    return f"host {number} knows {known} of {others} others in time{why}"


def _environment() -> dict[str, str]:
    """Ours, less the variables that would be read as settings."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLANNELD_", "ETCD_"))
    }
