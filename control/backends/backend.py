"""What a backend is to control, and how its configuration is read. Pure.

A backend says what the network configuration means, what our lease tells others, and
what a peer's lease means to us. Who carries the packets is another matter: carrier.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal, Protocol

from flannelette.control.errors import NetworkConfigError
from flannelette.control.gojson import fold
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.dataplane.forwarder import Route

Subnet = IPv4Network | IPv6Network
Routes = dict[Subnet, Route]
"""How a lease's subnets are reached, by subnet."""
CarriedBy = Literal["us", "kernel", "others"]
"""Who carries the packets."""


class Backend(Protocol):
    """One of flannel's backends, configured."""

    @property
    def type(self) -> str:
        """Flannel's name for it, as in Backend.Type."""

    @property
    def carried_by(self) -> CarriedBy:
        """Who carries its packets."""

    @property
    def port(self) -> int | None:
        """Where every node of the cluster listens; None: nothing is encapsulated."""

    @property
    def dual_underlay(self) -> bool:
        """Does it need IPv6 on the external interface?"""

    def check(self, external: External) -> None:
        """Raises HostError for an external interface that it cannot work with."""

    def mtus(self, external: int) -> tuple[int, int]:
        """The overlay's MTUs on an interface with that one: of IPv4 packets, and of
        IPv6 packets, 0 where there are none. Bytes."""

    def attrs(self, external: External, mac: int) -> LeaseAttrs:
        """What our lease says: exactly what flanneld writes (L1 to L6)."""

    def objection(self, lease: Lease, own: Lease) -> str | None:
        """Why a peer's lease is of no use to it; None if it is."""

    def routes(self, lease: Lease) -> Routes:
        """How the subnets of a lease without objection are reached. That of IPv6 may
        be missing: not every node takes it."""


class Members:
    """A Backend object's members, as Go reads them: in any case, null as absent, and
    the zero value of a number as not given."""

    def __init__(self, config: NetworkConfig, names: Iterable[str]) -> None:
        self._members: dict[str, Any] = fold(dict(config.backend), names)

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """From `least` to `most`, or the default. Raises NetworkConfigError."""
        value = self._members.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool):
            raise NetworkConfigError(f"network config: Backend.{name} is not a number")
        if value == 0:
            return default
        if not least <= value <= most:
            raise NetworkConfigError(
                f"network config: Backend.{name} {value} does not lie between "
                f"{least} and {most}"
            )
        return value

    def has(self, name: str) -> bool:
        return name in self._members

    def text(self, name: str) -> str:
        """Empty if it is not given. Raises NetworkConfigError."""
        value = self._members.get(name, "")
        if not isinstance(value, str):
            raise NetworkConfigError(f"network config: Backend.{name} is not a string")
        return value

    def boolean(self, name: str) -> bool:
        """Raises NetworkConfigError."""
        value = self._members.get(name, False)
        if not isinstance(value, bool):
            raise NetworkConfigError(
                f"network config: Backend.{name} is neither true nor false"
            )
        return value

    def choice(self, name: str, *choices: str) -> str:
        """The first is the default. Raises NetworkConfigError."""
        value = self._members.get(name, choices[0])
        if value not in choices:
            raise NetworkConfigError(
                f"network config: Backend.{name} is {value!r:.40}, not one of "
                f"{', '.join(choices)}"
            )
        return str(value)


def wrong_type(attrs: LeaseAttrs, wanted: str) -> str | None:
    """The objection to a lease of another backend (L7)."""
    if attrs.backend_type == wanted:
        return None
    return f"backend {attrs.backend_type or 'udp'}, not {wanted}"
