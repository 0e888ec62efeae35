"""What the doctor knows before it judges, and what a judgement is.

Facts are gathered by thin I/O (look.py), and every check is a function over them
(checks.py lists them). What could not be found out is None, and then no check judges
by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from flannelette.control.backends.backend import Backend, Subnet
from flannelette.control.config import Config
from flannelette.control.doctor.firewall import Chains
from flannelette.control.interface import External
from flannelette.control.lease import Lease
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.statusdocument import StatusDocument
from flannelette.dataplane.asking import Address, Answer, Outcome
from flannelette.tun.interfaces import Interface
from flannelette.tun.routes import Way


class Severity(IntEnum):
    ERROR = 0
    """Packets are lost by it."""
    WARNING = 1
    """It is slow, or will break."""


class Cure(NamedTuple):
    command: str
    on: Address | None = None
    """The host where to run it; None: here."""


class Finding(NamedTuple):
    check: str
    """A name for programs."""
    what: str
    """What is wrong: one line for a person."""
    cause: str
    cure: Cure
    severity: Severity = Severity.ERROR


Findings = Iterator[Finding]


class Peer(NamedTuple):
    """Where a node receives what is encapsulated."""

    address: Address
    port: int


@dataclass(frozen=True, slots=True)
class PeerFacts:
    peer: Peer
    subnets: tuple[Subnet, ...]
    small: Outcome = None
    """Of a probe with the fewest bytes."""
    full: Outcome = None
    """Of one as long as the longest packet makes a datagram."""
    underlay: Outcome = None
    """Of ICMP's echo to its own address, asked if it answers no probe."""
    overlay: Mapping[Subnet, Outcome] = field(default_factory=dict)
    """Of the echo to each subnet's first address, through the overlay; {} if there is
    no way in."""
    overlay_full: Outcome = None
    """Of one as long as the longest packet, to the first of them that answers."""
    needs: int = 0
    """Bytes of the longest packet on the underlay, its IP header included."""
    path_mtu: int | None = None
    """Bytes of the longest one that passes, if that is less."""

    @property
    def alive(self) -> tuple[Subnet, ...]:
        """The subnets that answer through the overlay."""
        return tuple(s for s, it in self.overlay.items() if isinstance(it, Answer))


@dataclass(frozen=True, slots=True)
class Daemon:
    """The process that answers at the operator socket, or should."""

    status: StatusDocument | None
    error: str | None = None
    """Why there is no status."""
    pid: int | None = None
    restart: str = "flannelette run"
    """The command that starts it, or starts it again."""
    elsewhere: bool = False
    """Is it in another network namespace than we?"""
    stopped: bool = False
    """By a signal, so that it does nothing?"""


class Holder(NamedTuple):
    """Who has the port that a daemon would need."""

    who: str
    stop: str
    """The command that makes it free, or that tells more."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    error: str | None = None
    """Why it cannot be read."""
    network: NetworkConfig | None = None
    network_error: str | None = None
    """What is wrong with the network configuration, or that there is none."""
    leases: tuple[Lease, ...] | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    config: Config
    """The daemon's own settings as far as they can be known, else those given to us."""
    daemon: Daemon
    store: StoreFacts = field(default_factory=StoreFacts)
    backend: Backend | None = None
    external: External | None = None
    external_error: str | None = None
    interfaces: Sequence[Interface] = ()
    holder: Holder | None = None
    """None: the port is free, a daemon runs, or it is not known."""
    settings: Mapping[str, int] = field(default_factory=dict)
    """Kernel settings by name, such as net.ipv4.ip_forward; those that are there."""
    ways: Mapping[Address, Way | None] = field(default_factory=dict)
    """The route that the kernel would take there."""
    chains: Chains = field(default_factory=dict)
    peers: Sequence[PeerFacts] = ()
    unchecked: Sequence[str] = ()
    """What could not be looked at, and why."""

    @property
    def status(self) -> StatusDocument | None:
        return self.daemon.status

    @property
    def started(self) -> bool:
        return self.status is not None and self.status["started"]

    @property
    def device(self) -> str | None:
        return self.status["node"]["device"] if self.status else None

    @property
    def external_name(self) -> str | None:
        return self.external.name if self.external else None

    @property
    def mtus(self) -> tuple[int, int]:
        """The overlay's, of IPv4 and of IPv6 packets; 0: not known, or no such packets.
        The daemon's own, or those that it would have."""
        node = self.status and self.status["node"]
        if node and node["mtu"]:
            return node["mtu"], node["mtu6"] or 0
        if self.backend and self.external:
            return self.backend.mtus(self.external.mtu)
        return 0, 0

    @property
    def backend_type(self) -> str | None:
        told = self.status and self.status["node"]["backend"]
        return told or (self.backend.type if self.backend else None)

    @property
    def port(self) -> int | None:
        """Where nodes listen; None: not known, or nothing is encapsulated."""
        told = self.status and self.status["node"]["port"]
        return told or (self.backend.port if self.backend else None)

    def network_of(self, version: int) -> str | None:
        """The overlay's network of that IP version."""
        told = (self.status and self.status["network"]) or ""
        texts = (text for text in told.split(", ") if text)
        return next((text for text in texts if (":" in text) == (version == 6)), None)

    def interface(self, name: str | None) -> Interface | None:
        return next((it for it in self.interfaces if it.name == name), None)
