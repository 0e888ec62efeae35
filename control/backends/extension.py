"""The extension backend: commands of the operator's carry the packets. Pure.

flannel-behaviour.md section 7.5. What PreStartupCommand says travels in the lease, and
the other nodes' SubnetAddCommand and SubnetRemoveCommand read it. extensioncarrier.py
runs them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import ClassVar, NamedTuple

from flannelette.control.backends.backend import (
    CarriedBy,
    Members,
    Routes,
    wrong_type,
)
from flannelette.control.errors import NetworkConfigError
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.dataplane.forwarder import Route

_COMMANDS = (
    "PreStartupCommand",
    "PostStartupCommand",
    "SubnetAddCommand",
    "SubnetRemoveCommand",
)
_GO_ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
_VARIABLE = re.compile(
    r"\$(?:\{(?P<braced>[^}]*)\}|(?P<bare>[*#$@!?0-9-]|[A-Za-z_][A-Za-z0-9_]*)|\{)"
)


@dataclass(frozen=True, slots=True)
class ExtensionBackend:
    """flannel's extension backend (control/backend.py). A command may be empty: then
    there is none."""

    type: ClassVar[str] = "extension"
    carried_by: ClassVar[CarriedBy] = "others"
    port: ClassVar[None] = None
    pre_startup: str = ""
    """Run before there is a lease; what it says is told to the other nodes."""
    post_startup: str = ""
    """Run when there is one."""
    subnet_add: str = ""
    """Run for a peer's lease."""
    subnet_remove: str = ""
    ipv6: bool = False
    """Dual stack."""

    @classmethod
    def from_config(cls, config: NetworkConfig) -> ExtensionBackend:
        """Raises NetworkConfigError."""
        members = Members(config, _COMMANDS)
        pre, post, add, remove = (_command(members, name) for name in _COMMANDS)
        return cls(pre, post, add, remove, ipv6=config.network6 is not None)

    @property
    def dual_underlay(self) -> bool:
        return self.ipv6

    def check(self, external: External) -> None:
        """It works with any interface."""

    def mtus(self, external: int) -> tuple[int, int]:
        """S4."""
        return external, external if self.ipv6 else 0

    def attrs(self, external: External, mac: int) -> LeaseAttrs:
        """Of the interface's own addresses, not of the public ones (section 2). What
        PreStartupCommand says is not among it yet."""
        six = external.address6 if self.ipv6 else None
        return LeaseAttrs(external.address, six, backend_type=self.type)

    def objection(self, lease: Lease, own: Lease) -> str | None:
        """What flanneld skips (L7)."""
        if reason := wrong_type(lease.attrs, self.type):
            return reason
        try:
            said(lease.attrs.backend_data)
        except ValueError as error:
            return str(error)
        return None

    def routes(self, lease: Lease) -> Routes:
        """One for each lease, since a command is run once for it."""
        return {lease.subnet: ExtensionRoute.of(lease)}


class Told(NamedTuple):
    """What SubnetAddCommand and SubnetRemoveCommand are told of a peer's lease."""

    subnet: IPv4Network
    public_ip: IPv4Address
    subnet6: IPv6Network | None
    public_ipv6: IPv6Address | None
    data: str
    """What its PreStartupCommand has said: on stdin."""

    @property
    def variables(self) -> dict[str, str]:
        """In the environment. Those of IPv6 are promised by flannel's documentation,
        but not given by flanneld; without IPv6 they are empty."""
        return {
            "SUBNET": str(self.subnet),
            "IPV6SUBNET": _or_empty(self.subnet6),
            "PUBLIC_IP": str(self.public_ip),
            "PUBLIC_IPV6": _or_empty(self.public_ipv6),
        }


class ExtensionRoute(Route):
    """A route with what commands are told. Another peer, or the same one who tells
    something else, is another route."""

    told: Told

    @classmethod
    def of(cls, lease: Lease) -> ExtensionRoute:
        """Raises ValueError for a lease that there is an objection to."""
        attrs = lease.attrs
        route = cls(*Route.to(lease.subnet, attrs.public_ip))
        addresses = attrs.public_ip, lease.subnet6, attrs.public_ipv6
        route.told = Told(lease.subnet, *addresses, said(attrs.backend_data))
        return route

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExtensionRoute) and self.told == other.told

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.told)


def startup_variables(network: NetworkConfig, lease: Lease) -> dict[str, str]:
    """What PostStartupCommand finds in its environment. Where flanneld gives `::/0` and
    `<nil>` for want of IPv6, a script would make something of it: ours are empty."""
    attrs = lease.attrs
    told = Told(lease.subnet, attrs.public_ip, lease.subnet6, attrs.public_ipv6, "")
    return {"NETWORK": str(network.network), **told.variables}


def _command(members: Members, name: str) -> str:
    """Raises NetworkConfigError: also for what no program can be told."""
    text = members.text(name)
    try:
        sound = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # half of a surrogate pair
        sound = False
    if not sound:
        raise NetworkConfigError(f"network config: Backend.{name} is no command line")
    return text


def _or_empty(value: object) -> str:
    return "" if value is None else str(value)


def backend_data(text: str) -> str:
    """A command's output as a lease carries it: JSON, as Go writes a string."""
    return json.dumps(text, ensure_ascii=False).translate(_GO_ESCAPES)


def said(data: str | None) -> str:
    """A command's output from a lease's BackendData. Raises ValueError."""
    try:
        text = "" if data is None else json.loads(data)
    except RecursionError:
        raise ValueError("BackendData is nested too deep") from None
    if not isinstance(text, str):
        raise ValueError("BackendData is no string")
    return text


def words(command: str, variables: Mapping[str, str]) -> list[str]:
    """Program and arguments: the command is split at white space, and then variables
    are expanded in each word. There is no shell: quotes are characters like any
    others."""
    return [expand(word, variables) for word in command.split()]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """$NAME and ${NAME}, as Go's os.Expand has it: what is not set is empty, and what
    is no name stands for itself, but for braces, which are lost."""

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["bare"]
        return variables.get(name, "") if name else ""

    return _VARIABLE.sub(value, text)
