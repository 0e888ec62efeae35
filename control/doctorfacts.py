"""What the doctor knows before it judges, and what a judgement is.

Facts are gathered by thin I/O (doctorlook.py), and every check is a function over them
(doctorchecks.py, doctorpeers.py). What could not be found out is None, and then no
check judges by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from flannelette.control.backend import Backend
from flannelette.control.config import Config
from flannelette.control.doctorfirewall import Chains
from flannelette.control.interface import External
from flannelette.control.lease import Lease
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.status import StatusDocument
from flannelette.dataplane.asking import Address, Outcome
from flannelette.tun.interfaces import Interface
from flannelette.tun.routes import Way

Subnet = IPv4Network | IPv6Network


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
    longest: int | None = None
    """Bytes of the longest datagram that is answered, if the full one is not."""
    underlay: Outcome = None
    """Of ICMP's echo to its own address, asked if it answers no probe."""
    overlay: Outcome = None
    """Of the echo to its first subnet's first address, through the overlay."""
    echoed: bool = False
    """Was that asked?"""


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
    settings: Mapping[str, int] = field(default_factory=dict)
    """Kernel settings by name, such as net.ipv4.ip_forward; those that are there."""
    ways: Mapping[Address, Way | None] = field(default_factory=dict)
    """The route that the kernel would take there."""
    chains: Chains | None = None
    peers: Sequence[PeerFacts] = ()
    unchecked: Sequence[str] = ()
    """What could not be looked at, and why."""

    @property
    def status(self) -> StatusDocument | None:
        return self.daemon.status

    @property
    def ready(self) -> bool:
        return self.status is not None and self.status["ready"]

    @property
    def device(self) -> str | None:
        return self.status["node"]["device"] if self.status else None

    def interface(self, name: str | None) -> Interface | None:
        return next((it for it in self.interfaces if it.name == name), None)
