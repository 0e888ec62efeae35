"""The network configuration: the JSON object that all nodes of a cluster share.

flannel-behaviour.md section 1.2, E7 to E11. Read as Go reads it: member names in any
case, null as absent, unknown members ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any

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
    backend: dict[str, Any] | None = msgspec.field(name="Backend", default=None)


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

    def contains(self, subnet: IPv4Network) -> bool:
        """Could this network have leased that subnet? (E14: min, max and length.)"""
        return (
            subnet.prefixlen == self.subnet_len
            and self.subnet_min <= subnet.network_address <= self.subnet_max
        )

    @classmethod
    def parse(cls, text: bytes | str) -> NetworkConfig:
        """Read and check the JSON text. Raises only NetworkConfigError."""
        try:
            folded = fold(loads_object(text), _Raw.__struct_encode_fields__)
            raw = msgspec.convert(folded, _Raw)
        except (GoJSONError, msgspec.ValidationError) as error:
            raise NetworkConfigError(f"network config: {error}") from None
        if not raw.ipv4 or raw.ipv6:
            raise NetworkConfigError("network config: only IPv4 networks work yet")
        network = _network(raw.network)
        length = _subnet_len(raw.subnet_len, network)
        size = 1 << (32 - length)
        low = _bound("SubnetMin", raw.subnet_min, network, length, default=size)
        high = _bound(
            "SubnetMax", raw.subnet_max, network, length, network.num_addresses - size
        )
        if low > high:
            raise NetworkConfigError(
                f"network config: SubnetMin {low} lies above SubnetMax {high}"
            )
        backend_type, backend = _backend(raw.backend)
        return cls(network, length, low, high, backend_type, backend)


def _network(text: str) -> IPv4Network:
    if not text:
        raise NetworkConfigError("network config: Network is missing")
    if re.fullmatch(r"[^/]*/[0-9]+", text, re.ASCII) is None:  # Python takes masks too
        raise NetworkConfigError(
            f"network config: Network {text!r} is no ADDRESS/LENGTH"
        )
    try:
        network = IPv4Network(text, strict=False)
    except ValueError as error:
        raise NetworkConfigError(f"network config: Network: {error}") from None
    if network.prefixlen == 0:
        raise NetworkConfigError("network config: Network is missing")  # E7
    return network


def _subnet_len(given: int, network: IPv4Network) -> int:
    """E8: given, at most 30 and two longer than Network; else what fits."""
    shortest = network.prefixlen + 2
    if given:
        if not shortest <= given <= 30:
            raise NetworkConfigError(
                f"network config: SubnetLen {given} must lie between {shortest} "
                f"(Network's length and 2) and 30"
            )
        return given
    if network.prefixlen > 28:
        raise NetworkConfigError(
            f"network config: Network {network} is too small; /28 is the smallest"
        )
    return 24 if network.prefixlen <= 22 else shortest


def _bound(
    name: str, text: str, network: IPv4Network, length: int, default: int
) -> IPv4Address:
    """E9: inside Network and aligned; 0.0.0.0 takes the default, an offset."""
    try:
        address = IPv4Address(text)
    except AddressValueError as error:
        raise NetworkConfigError(f"network config: {name}: {error}") from None
    if int(address) == 0:
        return network.network_address + default
    if address not in network:
        raise NetworkConfigError(
            f"network config: {name} {address} lies outside Network {network}"
        )
    if int(address) & ((1 << (32 - length)) - 1):
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
