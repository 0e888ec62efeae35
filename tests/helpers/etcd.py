"""A real etcd on loopback for the tests: start, stop, freeze, compact; TLS and users.

    with running_etcd(tmp_path) as etcd:
        store = EtcdStore(etcd.settings("/prefix"))

Each server is a process of its own that dies with this one at the latest.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from unittest.mock import patch

import grpc
import grpc.aio
import pytest

from flannelette.control.errors import StoreError, one_line
from flannelette.control.etcd import servers
from flannelette.control.etcd.settings import EtcdSettings
from flannelette.control.etcd.store import EtcdStore
from tests.helpers.authority import Authority, TLSPaths as TLSPaths
from tests.helpers.etcdclient import Client
from tests.helpers.storerig import DEADLINE, eventually


@pytest.fixture(autouse=True)
async def settled() -> AsyncIterator[None]:
    """Import it where stores are used: gRPC's tasks hear of a cancelled call a moment
    later, and the loop should not end before."""
    yield
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


def require_etcd() -> None:
    """Skip the test, or the module, where there is no etcd."""
    if shutil.which("etcd") is None:
        pytest.skip("no etcd binary in PATH", allow_module_level=True)


def free_ports(number: int) -> list[int]:
    """Ports on loopback that nobody listens on just now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def make_tls(directory: Path, address: str = "127.0.0.1") -> TLSPaths:
    """An authority, with a certificate for a client and one for a server there."""
    return Authority(directory, address).paths


@dataclass(frozen=True)
class Place:
    """Where servers run, and how patient they are with each other."""

    address: str = "127.0.0.1"
    """Clients find them there, and at 127.0.0.1."""
    inside: Callable[[], AbstractContextManager[None]] = nullcontext
    """Moves this thread into their network namespace."""
    heartbeat: int = 20
    """Milliseconds; a leader that is silent for ten of them is replaced."""


HERE = Place()


class Etcd:
    """One server process. Ports and data stay the same over restarts."""

    def __init__(
        self,
        directory: Path,
        tls: TLSPaths | None = None,
        name: str = "one",
        ports: Sequence[int] = (),
        cluster: str = "",
        arguments: Sequence[str] = (),
        client_certificates: bool = True,
        place: Place = HERE,
    ) -> None:
        self.directory = directory
        self._place = place
        self.tls = tls
        self.port, peer_port, self._health_port = ports or free_ports(3)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://{place.address}:{self.port}"
        local = f"{scheme}://127.0.0.1:{self.port}"
        urls = ",".join({self.url: None, local: None})
        peer = f"http://127.0.0.1:{peer_port}"
        self._data = directory / f"{name}.etcd"
        self._command = [
            # Whatever becomes of the tests, etcd does not outlive them.
            *("setpriv", "--pdeathsig", "KILL", "etcd"),
            *("--name", name, "--data-dir", str(self._data)),
            *("--listen-client-urls", urls, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", cluster or f"{name}={peer}"),
            *("--listen-metrics-urls", f"http://127.0.0.1:{self._health_port}"),
            *("--heartbeat-interval", f"{place.heartbeat}"),
            *("--election-timeout", f"{10 * place.heartbeat}"),
            *arguments,
        ]
        if tls is not None:
            self._command += ["--cert-file", tls.server_cert]
            self._command += ["--key-file", tls.server_key]
            if client_certificates:
                self._command += ["--trusted-ca-file", tls.ca, "--client-cert-auth"]
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start the process, without waiting for it."""
        path = self.directory / f"{self._data.stem}.log"
        with path.open("ab") as log, self._place.inside():
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait(self) -> None:
        """Until it answers, which takes a majority of its cluster."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            if self._healthy():
                return
            time.sleep(0.01)
        pytest.fail(f"etcd does not answer:\n{self.log()}")

    def start(self) -> None:
        self.launch()
        self.wait()

    def stop(self, signal_: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal_)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections and accepts new ones, but never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Lose all data, as a cluster that was set up anew."""
        assert self._process is None
        shutil.rmtree(self._data)

    def log(self) -> str:
        path = self.directory / f"{self._data.stem}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-30:])

    def _healthy(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._health_port, timeout=2)
        try:
            with self._place.inside():
                connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def settings(
        self,
        prefix: str = "/coreos.com/network",
        username: str = "",
        password: str = "",
    ) -> EtcdSettings:
        """Settings for a store on this server."""
        tls = self.tls
        return EtcdSettings(
            (self.url,),
            prefix,
            keyfile=tls.client_key if tls else "",
            certfile=tls.client_cert if tls else "",
            cafile=tls.ca if tls else "",
            username=username,
            password=password,
        )

    def channel(self) -> grpc.aio.Channel:
        address = f"127.0.0.1:{self.port}"
        if self.tls is None:
            return grpc.aio.insecure_channel(address)
        files = (self.tls.ca, self.tls.client_key, self.tls.client_cert)
        credentials = grpc.ssl_channel_credentials(
            *(Path(file).read_bytes() for file in files)
        )
        return grpc.aio.secure_channel(address, credentials)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """What stands for other programs that use the same etcd."""
        async with self.channel() as channel:
            yield Client(channel)


@asynccontextmanager
async def opened(settings: EtcdSettings) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(settings)
    try:
        yield store
    finally:
        await store.close()


async def refusal(settings: EtcdSettings) -> str:
    """Why a store with these settings cannot read the configuration: all that the
    operator is told."""
    # It is known at once, and tried again until the budget is used up.
    quick = patch.object(servers, "BUDGET", 1.5)
    with quick, pytest.raises(StoreError) as caught:
        async with opened(settings) as store:
            await store.network_config()
    text = one_line(caught.value)
    assert "\n" not in text
    return text


@contextmanager
def running_etcd(
    directory: Path,
    tls: TLSPaths | None = None,
    arguments: Sequence[str] = (),
    client_certificates: bool = True,
    place: Place = HERE,
) -> Iterator[Etcd]:
    """A server of its own in a directory, answering."""
    require_etcd()
    for attempt in count():
        etcd = Etcd(
            directory,
            tls,
            arguments=arguments,
            client_certificates=client_certificates,
            place=place,
        )
        try:
            etcd.start()
            break
        except AssertionError:  # somebody took one of its ports in between
            etcd.stop()
            if attempt == 3:
                raise
    try:
        yield etcd
    finally:
        etcd.stop()


@contextmanager
def running_cluster(
    directory: Path, size: int = 3, place: Place = HERE
) -> Iterator[list[Etcd]]:
    """A cluster of servers, answering."""
    require_etcd()
    ports = free_ports(3 * size)
    triples = [ports[i : i + 3] for i in range(0, 3 * size, 3)]
    cluster = ",".join(
        f"n{i}=http://127.0.0.1:{triple[1]}" for i, triple in enumerate(triples)
    )
    members = [
        Etcd(directory, name=f"n{i}", ports=triple, cluster=cluster, place=place)
        for i, triple in enumerate(triples)
    ]
    try:
        for member in members:
            member.launch()
        for member in members:
            member.wait()
        yield members
    finally:
        for member in members:
            with suppress(ProcessLookupError):
                member.stop()
