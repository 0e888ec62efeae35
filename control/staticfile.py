"""The static store's file: all nodes of an overlay, and what they tell each other.

    [network]                  # flannel's network config, same member names
    Network = "10.5.0.0/16"
    [network.Backend]
    Type = "udp"

    [[node]]                   # one for each node, this one too
    public-ip = "192.0.2.1"
    subnet = "10.5.1.0/24"

Each node of a vxlan network has its device's MAC besides, and each of a dual-stack one
the other two (udp and alloc can do without public-ipv6):

    mac = "02:00:00:00:00:01"
    subnet6 = "fd00:5:0:1::/64"
    public-ipv6 = "2001:db8::1"

Of each node this makes the lease that flanneld would have written in its place.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import pairwise
from typing import Any, TypeVar

import msgspec

from flannelette.control import mac as macs
from flannelette.control.errors import ConfigError, NetworkConfigError
from flannelette.control.gojson import fold
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig

_NETWORK_MEMBERS = {
    *("enableipv4", "enableipv6", "enablenftables", "backend"),
    *("network", "subnetlen", "subnetmin", "subnetmax"),
    *("ipv6network", "ipv6subnetlen", "ipv6subnetmin", "ipv6subnetmax"),
}
"""flannel's, in any case. flannel ignores strangers; here they are typing errors."""


_Network = TypeVar("_Network", IPv4Network, IPv6Network)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    network: dict[str, Any]
    node: list[dict[str, Any]] = []


class _Node(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    public_ip: str
    subnet: str
    public_ipv6: str | None = None
    subnet6: str | None = None
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class StaticFile:
    """What a file says, checked."""

    network: bytes
    """The network configuration as JSON."""
    leases: dict[IPv4Address, Lease]
    """Every node's lease, by public IP."""

    @classmethod
    def parse(cls, content: bytes) -> StaticFile:
        """Raises ConfigError alone, which names the wrong entry but no file."""
        try:
            file = msgspec.convert(tomllib.loads(content.decode()), _File)
        except msgspec.ValidationError as error:
            raise ConfigError(str(error)) from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"not TOML: {error}") from None
        text, network = _network(file.network)
        leases: dict[IPv4Address, Lease] = {}
        seen: set[object] = set()
        for number, members in enumerate(file.node, 1):
            try:
                lease = _lease(msgspec.convert(members, _Node), network)
                _check_identity(members, lease.attrs, seen)
            except (ValueError, msgspec.ValidationError) as error:
                raise ConfigError(f"node {number}: {error}") from None
            leases[lease.attrs.public_ip] = lease
        _check_overlaps((it.subnet, ip) for ip, it in leases.items())
        _check_overlaps((it.subnet6, ip) for ip, it in leases.items() if it.subnet6)
        return cls(text, leases)


def _network(members: dict[str, Any]) -> tuple[bytes, NetworkConfig]:
    """The network configuration, as JSON and checked."""
    for name in members:
        if name.casefold() not in _NETWORK_MEMBERS:
            raise ConfigError(f"network: unknown member {name!r}")
    try:
        text = json.dumps(members, allow_nan=False).encode()
        return text, NetworkConfig.parse(text)
    except (TypeError, ValueError, RecursionError) as error:  # a date, an infinity
        raise ConfigError(f"network: {error}") from None
    except NetworkConfigError as error:
        raise ConfigError(str(error)) from None


def _lease(node: _Node, network: NetworkConfig) -> Lease:
    """What flanneld would have written for the node (L1 to L6). Raises ValueError."""
    subnet, subnet6 = IPv4Network(node.subnet), None
    _check_place("subnet", subnet, network.network)
    dual = network.network6 is not None
    vxlan = network.backend_type == "vxlan"
    typeless = network.backend_type in ("udp", "alloc")  # what they write (section 2)
    _check_given("subnet6", node.subnet6, dual, dual)
    _check_given("public-ipv6", node.public_ipv6, dual, dual and not typeless)
    _check_given("mac", node.mac, vxlan, vxlan)
    if node.subnet6 is not None and network.network6 is not None:
        subnet6 = IPv6Network(_zoneless(node.subnet6))
        _check_place("subnet6", subnet6, network.network6)
    public_ipv6 = None
    if node.public_ipv6 is not None:
        public_ipv6 = IPv6Address(_zoneless(node.public_ipv6))
    data = None if node.mac is None else _vtep(node.mac, network)
    attrs = LeaseAttrs(
        public_ip=IPv4Address(node.public_ip),
        public_ipv6=public_ipv6,
        backend_type="" if typeless else network.backend_type,
        backend_data=data,
        backend_v6_data=data if dual else None,
        raw_ipv6=dual and network.backend_type == "udp",
    )
    return Lease(subnet, attrs, subnet6, permanent=True)


def _check_given(name: str, value: str | None, allowed: bool, needed: bool) -> None:
    if value is None and needed:
        raise ValueError(f"{name} is missing, which this network needs")
    if value is not None and not allowed:
        raise ValueError(f"{name} is given, which this network has no use for")


def _check_place(
    name: str, subnet: IPv4Network | IPv6Network, network: IPv4Network | IPv6Network
) -> None:
    first, last = subnet.network_address, subnet.broadcast_address
    if first not in network or last not in network:
        raise ValueError(f"{name} {subnet} lies outside Network {network}")
    if subnet.prefixlen == subnet.max_prefixlen:  # H9
        raise ValueError(f"{name} {subnet} is longer than /{subnet.max_prefixlen - 1}")


def _zoneless(text: str) -> str:
    if "%" in text:
        raise ValueError(f"{text} has a zone")
    return text


def _vtep(text: str, network: NetworkConfig) -> str:
    """vxlan's BackendData: two members, compact (L6, H8). Raises ValueError."""
    mac = macs.parse(text)
    if not macs.is_unicast(mac):  # H6
        raise ValueError(f"mac {text} is no device's")
    vni = fold(dict(network.backend), ["VNI"]).get("VNI", 1)  # V1
    data = {"VNI": vni, "VtepMAC": macs.show(mac)}
    return json.dumps(data, separators=(",", ":"))


def _check_identity(
    members: dict[str, Any], attrs: LeaseAttrs, seen: set[object]
) -> None:
    """No two nodes share an address or a MAC. Raises ValueError."""
    values = {
        "public-ip": attrs.public_ip,
        "public-ipv6": attrs.public_ipv6,
        "mac": attrs.backend_data,
    }
    for name, value in values.items():
        if value in seen:
            raise ValueError(f"{name} {members[name]} comes twice")
        if value is not None:
            seen.add(value)


def _check_overlaps(claims: Iterable[tuple[_Network, IPv4Address]]) -> None:
    """No two subnets share an address; the nodes by their public IPs."""
    for (wide, one), (narrow, other) in pairwise(sorted(claims)):
        if narrow.overlaps(wide):
            raise ConfigError(
                f"node {other}: subnet {narrow} overlaps {wide} of node {one}"
            )
