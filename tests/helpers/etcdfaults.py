"""Two daemons that forward all the time, and an etcd to be broken beneath them.

    with troubled(tmp_path, servers=3) as it:
        it.servers[0].stop()
        it.said(["etcd is not watched"])

The servers run on host 1. What the test asks of them goes by another address than what
the daemons do, so it passes a partition.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flannelette.benchmarks.netns import tool
from tests.helpers.authority import Authority
from tests.helpers.etcd import Etcd, Place, require_etcd, running_cluster, running_etcd
from tests.helpers.gateway import LEASES, PREFIX, Gateway
from tests.helpers.lab import Lab, lab
from tests.helpers.ns import until
from tests.helpers.pulse import Pulse, pulse

SERVERS = "192.0.2.1"
HEARTBEAT = 100
"""Milliseconds, as is etcd's default: the machine may be busy."""
CONFIG = b'{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}'
VALUE = b'{"PublicIP":"192.0.2.77","PublicIPv6":null}'
"""The lease of a node that is not there."""
PROBLEMS = ("WARNING", "ERROR", "CRITICAL")
ELECTION = ": leader changed"
"""Why a server did not answer a call."""


@dataclass
class Troubled:
    """What a test breaks, and what it looks at."""

    lab: Lab
    servers: list[Etcd]
    etcd: Gateway
    """By the last server."""
    pulse: Pulse
    _read: dict[int, int] = field(default_factory=dict)

    def lead(self, server: Etcd) -> None:
        """Make it the leader."""
        gateways = [
            Gateway(self.lab.rig, ("127.0.0.1", it.port)) for it in self.servers
        ]
        (leader,) = [it for it in gateways if it.leads()]
        wanted = gateways[self.servers.index(server)]
        if leader is not wanted:
            leader.call("maintenance/transfer-leadership", targetID=wanted.member())
        until(wanted.leads)

    def add_node(self, number: int) -> None:
        """One more lease, of 10.5.N.0/24: beyond 100, where no host takes its own."""
        self.etcd.put(f"{LEASES}10.5.{number}.0-24", VALUE)

    def remove_node(self, number: int) -> None:
        self.etcd.delete(f"{LEASES}10.5.{number}.0-24")

    def nodes(self, number: int) -> set[int]:
        """Those that host N's daemon knows, of those that add_node() made."""
        routes = self.lab.status(number)["routes"]
        return {
            int(route["subnet"].split(".")[2])
            for route in routes
            if route["peer"].startswith("192.0.2.77")
        }

    def until_known(self, *nodes: int) -> None:
        """To both daemons, and no others."""
        for number in (1, 2):
            until(partial(self._knows, number, set(nodes)), 30)

    def _knows(self, number: int, nodes: set[int]) -> bool:
        return self.nodes(number) == nodes

    def store(self, number: int) -> dict[str, Any]:
        store: dict[str, Any] = self.lab.status(number)["store"]
        return store

    def key(self, number: int) -> str:
        """Of a host's own lease."""
        return str(self.lab.status(number)["lease"]["subnet"]).replace("/", "-")

    def revoke(self, number: int) -> None:
        """A host's own lease."""
        self.etcd.revoke(self.etcd.leases()[self.key(number)][1])

    def news(self, number: int, problems: bool = True) -> list[str]:
        """What a daemon has logged since all_said(); or its problems alone, without the
        servers' elections: on a busy machine they hold them whenever they like."""
        lines = self.lab.log(number).splitlines()[self._read.get(number, 0) :]
        if not problems:
            return lines
        told = [line for line in lines if line.startswith(PROBLEMS)]
        return [line for line in told if not line.endswith(ELECTION)]

    def until_said(self, texts: str | tuple[str, ...], *numbers: int) -> None:
        """One of these texts, by these daemons, or both."""
        texts = (texts,) if isinstance(texts, str) else texts

        def said(number: int) -> bool:
            news = self.news(number, problems=False)
            return any(text in line for text in texts for line in news)

        for number in numbers or (1, 2):
            until(partial(said, number), 30)

    def all_said(self, number: int, *problems: str) -> None:
        """Each of these is in a problem's line, in this order, and there is no other.
        What comes next is looked at anew."""
        news = self.news(number)
        assert len(news) == len(problems), news
        for line, problem in zip(news, problems, strict=True):
            assert problem in line, news
        self._read[number] = len(self.lab.log(number).splitlines())

    @contextmanager
    def partition(self, number: int) -> Iterator[None]:
        """Between a host and the servers, silently."""
        ports = ", ".join(str(server.port) for server in self.servers)
        servers = f"{SERVERS} tcp"
        rules = f"""
        table inet partition {{
            chain out {{ type filter hook output priority 0;
                ip daddr {servers} dport {{ {ports} }} drop; }}
            chain in {{ type filter hook input priority 0;
                ip saddr {servers} sport {{ {ports} }} drop; }}
        }}"""
        rig, nft = self.lab.rig, tool("nft")
        rig.run(rig.host(number), [nft, "-f", "-"], input=rules)
        try:
            yield
        finally:
            rig.run(rig.host(number), [nft, "delete", "table", "inet", "partition"])


@contextmanager
def troubled(
    directory: Path,
    servers: int = 1,
    authority: Authority | None = None,
    users: bool = False,
    dead: bool = False,
    flags: Sequence[str] = (),
) -> Iterator[Troubled]:
    """Up, and forwarding. `users`: the daemons log in as `flannel`. `dead`: the first
    server is, from before the daemons start. `flags` are the daemons'."""
    require_etcd()
    with ExitStack() as stack:
        it = stack.enter_context(lab(directory, flags=["--store=etcd", *flags]))
        rig = it.rig
        place = Place(SERVERS, partial(rig.inside, rig.host(1)), HEARTBEAT)
        if servers > 1:
            running = stack.enter_context(running_cluster(directory, servers, place))
        else:
            tls = authority.paths if authority else None
            arguments = ["--bcrypt-cost", "4"]
            one = running_etcd(directory, tls, arguments, place=place)
            running = [stack.enter_context(one)]
        etcd = Gateway(rig, ("127.0.0.1", running[-1].port), _context(authority))
        etcd.put(f"{PREFIX}/config", CONFIG)
        it.cluster._flags += _settings(running, authority)
        if users:
            it.cluster._flags += ["--etcd-username=flannel", "--etcd-password=hush"]
            add_users(etcd)
        if dead:
            running[0].stop()
        it.connect()
        beat = stack.enter_context(pulse(it))
        beat.goes_on()
        yield Troubled(it, running, etcd, beat)
        for number in (1, 2):
            assert "Traceback" not in it.log(number)


def add_users(etcd: Gateway) -> None:
    etcd.add_user("root", "root")
    etcd.add_user("flannel", "hush")
    etcd.permit("flannel", f"{PREFIX}/")
    etcd.call("auth/enable")
    etcd.log_in("root", "root")


def _settings(servers: Sequence[Etcd], authority: Authority | None) -> list[str]:
    endpoints = ",".join(server.url for server in servers)
    flags = [f"--etcd-endpoints={endpoints}"]
    if authority is not None:
        paths = authority.paths
        flags += [f"--etcd-cafile={paths.ca}", f"--etcd-certfile={paths.client_cert}"]
        flags += [f"--etcd-keyfile={paths.client_key}"]
    return flags


def _context(authority: Authority | None) -> ssl.SSLContext | None:
    if authority is None:
        return None
    paths = authority.paths
    context = ssl.create_default_context(cafile=paths.ca)
    context.check_hostname = False  # the server's is another address
    context.load_cert_chain(paths.client_cert, paths.client_key)
    return context
