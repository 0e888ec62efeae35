"""The network configuration: the JSON object that all nodes of a cluster share.

flannel-behaviour.md section 1.2, E7 to E11. Read as Go reads it: member names in any
case, null as absent, unknown members ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
)
from typing import Any, TypeVar

import msgspec

from flannelette.control.errors import NetworkConfigError
from flannelette.control.gojson import GoJSONError, fold, loads_object


class _Raw(msgspec.Struct):
    """The members we read, with the types that Go's decoder wants."""

    ipv4: bool = msgspec.field(name="EnableIPv4", default=True)
    ipv6: bool = msgspec.field(name="EnableIPv6", default=False)
    network: str = msgspec.field(name="Network", default="")
    subnet_len: int = msgspec.field(name="SubnetLen", default=0)
    subnet_min: str = msgspec.field(name="SubnetMin", default="0.0.0.0")
    subnet_max: str = msgspec.field(name="SubnetMax", default="0.0.0.0")
    network6: str = msgspec.field(name="IPv6Network", default="")
    subnet6_len: int = msgspec.field(name="IPv6SubnetLen", default=0)
    subnet6_min: str = msgspec.field(name="IPv6SubnetMin", default="::")
    subnet6_max: str = msgspec.field(name="IPv6SubnetMax", default="::")
    backend: dict[str, Any] | None = msgspec.field(name="Backend", default=None)
    nftables: bool = msgspec.field(name="EnableNFTables", default=False)


_Network = TypeVar("_Network", IPv4Network, IPv6Network)
_Address = TypeVar("_Address", IPv4Address, IPv6Address)


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A checked network configuration; parse() is the way to make one."""

    network: IPv4Network
    """The whole overlay, such as 10.5.0.0/16."""
    subnet_len: int
    """Prefix length of each node's subnet."""
    subnet_min: IPv4Address
    """The first subnet that may be leased; by default Network's second."""
    subnet_max: IPv4Address
    """The last subnet that may be leased, inclusive."""
    backend_type: str
    """In lower case; `udp` when the configuration names no backend."""
    backend: Mapping[str, Any]
    """The backend's own members, unread."""

    network6: IPv6Network | None = None
    """The overlay's IPv6 network; there is one in dual stack alone (EnableIPv6). IPv6
    without IPv4 does not exist in etcd (E24)."""
    subnet6_len: int = 0
    subnet6_min: IPv6Address | None = None
    subnet6_max: IPv6Address | None = None
    nftables: bool = False
    """Make traffic rules with nftables, not with iptables (EnableNFTables, K21)."""

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The overlay of each IP version that there is."""
        six = () if self.network6 is None else (self.network6,)
        return (self.network, *six)

    def contains(self, subnet: IPv4Network, subnet6: IPv6Network | None = None) -> bool:
        """Could this network have leased these subnets? (E14: min, max and length.)

        In dual stack both are needed, and elsewhere a second one never fits (H2)."""
        return (
            subnet.prefixlen == self.subnet_len
            and self.subnet_min <= subnet.network_address <= self.subnet_max
            and self._contains6(subnet6)
        )

    def _contains6(self, subnet: IPv6Network | None) -> bool:
        low, high = self.subnet6_min, self.subnet6_max
        if subnet is None or low is None or high is None:
            return subnet is None and self.network6 is None
        return (
            subnet.prefixlen == self.subnet6_len
            and low <= subnet.network_address <= high
        )

    @classmethod
    def parse(cls, text: bytes | str) -> NetworkConfig:
        """Read and check the JSON text. Raises only NetworkConfigError."""
        try:
            folded = fold(loads_object(text), _Raw.__struct_encode_fields__)
            raw = msgspec.convert(folded, _Raw)
        except (GoJSONError, msgspec.ValidationError) as error:
            raise NetworkConfigError(f"network config: {error}") from None
        if not raw.ipv4:  # E24
            raise NetworkConfigError(
                "network config: EnableIPv4 is false, but IPv6 works only beside IPv4"
            )
        backend_type, backend = _backend(raw.backend)
        network = _network("Network", raw.network, IPv4Network)
        length = _subnet_len("", raw.subnet_len, network)
        bounds = (raw.subnet_min, raw.subnet_max)
        low, high = _bounds("", bounds, network, length, IPv4Address)
        config = cls(
            network, length, low, high, backend_type, backend, nftables=raw.nftables
        )
        if not raw.ipv6:
            return config
        network6 = _network("IPv6Network", raw.network6, IPv6Network)
        length6 = _subnet_len("IPv6", raw.subnet6_len, network6)
        bounds = (raw.subnet6_min, raw.subnet6_max)
        low6, high6 = _bounds("IPv6", bounds, network6, length6, IPv6Address)
        return replace(
            config,
            network6=network6,
            subnet6_len=length6,
            subnet6_min=low6,
            subnet6_max=high6,
        )


def _network(name: str, text: str, family: type[_Network]) -> _Network:
    if not text:
        raise NetworkConfigError(f"network config: {name} is missing")
    # Python takes masks and zones too.
    if re.fullmatch(r"[^/%]*/[0-9]+", text, re.ASCII) is None:
        raise NetworkConfigError(
            f"network config: {name} {text!r} is no ADDRESS/LENGTH"
        )
    try:
        network = family(text, strict=False)
    except ValueError as error:
        raise NetworkConfigError(f"network config: {name}: {error}") from None
    if network.prefixlen == 0:
        raise NetworkConfigError(f"network config: {name} is missing")  # E7
    return network


def _subnet_len(prefix: str, given: int, network: IPv4Network | IPv6Network) -> int:
    """E8, E10: given, two longer than the network at least; else what fits."""
    usual, longest = (24, 30) if network.version == 4 else (64, 126)
    shortest = network.prefixlen + 2
    if given:
        if not shortest <= given <= longest:
            raise NetworkConfigError(
                f"network config: {prefix}SubnetLen {given} must lie between "
                f"{shortest} ({prefix}Network's length and 2) and {longest}"
            )
        return given
    if shortest > longest:
        raise NetworkConfigError(
            f"network config: {prefix}Network {network} is too small; "
            f"/{longest - 2} is the smallest"
        )
    return max(usual, shortest)


def _bounds(
    prefix: str,
    texts: tuple[str, str],
    network: IPv4Network | IPv6Network,
    length: int,
    family: type[_Address],
) -> tuple[_Address, _Address]:
    """SubnetMin and SubnetMax; by default the second subnet and the last (E9, E11)."""
    size = 1 << (network.max_prefixlen - length)
    first, last = int(network.network_address), int(network.broadcast_address)
    defaults = family(first + size), family(last + 1 - size)
    names = f"{prefix}SubnetMin", f"{prefix}SubnetMax"
    low, high = (
        _bound(name, text, network, length, default)
        for name, text, default in zip(names, texts, defaults, strict=True)
    )
    if int(low) > int(high):
        raise NetworkConfigError(
            f"network config: {names[0]} {low} lies above {names[1]} {high}"
        )
    return low, high


def _bound(
    name: str,
    text: str,
    network: IPv4Network | IPv6Network,
    length: int,
    default: _Address,
) -> _Address:
    """Inside the network and aligned; all zeros take the default (E9, E11)."""
    try:
        address = type(default)(text)
    except AddressValueError as error:
        raise NetworkConfigError(f"network config: {name}: {error}") from None
    if int(address) == 0:
        return default
    if address not in network or "%" in text:
        raise NetworkConfigError(
            f"network config: {name} {address} lies outside {network}"
        )
    if int(address) & ((1 << (network.max_prefixlen - length)) - 1):
        raise NetworkConfigError(
            f"network config: {name} {address} is not the start of a /{length}"
        )
    return address


def _backend(raw: dict[str, Any] | None) -> tuple[str, Mapping[str, Any]]:
    if raw is None:
        return "udp", {}
    name = fold(raw, ["Type"]).get("Type")
    if not isinstance(name, str) or not name:
        raise NetworkConfigError("network config: Backend has no Type")
    return name.lower(), raw
