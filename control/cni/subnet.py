"""subnet.env as the CNI plugin reads it: flannel-behaviour.md N2.

Not subnetfile.py's reader: that one wants our last subnets and forgives the rest; this
one wants everything, and says what is missing. A known name without `=`, on which
flannel's plugin crashes (N2), is an error like others.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from re import ASCII, fullmatch
from typing import NamedTuple, TypeVar

_NETWORK, _NETWORK6 = "FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"
_SUBNET, _SUBNET6 = "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"
_MTU, _IPMASQ = "FLANNEL_MTU", "FLANNEL_IPMASQ"
_NAMES = (_NETWORK, _NETWORK6, _SUBNET, _SUBNET6, _MTU, _IPMASQ)

_Family = TypeVar("_Family", IPv4Network, IPv6Network)


class SubnetFileError(ValueError):
    """The text of a subnet file is wrong, or not all there."""


class NodeSubnet(NamedTuple):
    """What the daemon says of this node: networks of the cluster, IPv4's first, and
    the node's subnets of each family that it has."""

    networks: tuple[IPv4Network | IPv6Network, ...]
    subnets: tuple[IPv4Network | IPv6Network, ...]
    mtu: int
    ipmasq: bool


def parse(text: str) -> NodeSubnet:
    """Read lines of KEY=VALUE; names that are not known are passed over.

    Raises SubnetFileError, which names all that is missing (T44)."""
    values = _assigned(text)
    networks: list[IPv4Network | IPv6Network] = [
        *_networks(values, _NETWORK, IPv4Network),
        *_networks(values, _NETWORK6, IPv6Network),
    ]
    subnets: list[IPv4Network | IPv6Network] = []
    if _SUBNET in values:
        subnets.append(_network(_SUBNET, values[_SUBNET], IPv4Network))
    if _SUBNET6 in values:
        subnets.append(_network(_SUBNET6, values[_SUBNET6], IPv6Network))
    missing = [
        *((_NETWORK, _NETWORK6) if not networks else ()),
        *((_SUBNET, _SUBNET6) if not subnets else ()),
        *(name for name in (_MTU, _IPMASQ) if name not in values),
    ]
    if missing:
        raise SubnetFileError(f"missing {', '.join(missing)}")
    return NodeSubnet(
        tuple(dict.fromkeys(networks)),
        tuple(subnets),
        _mtu(values[_MTU]),
        values[_IPMASQ] == "true",
    )


def _assigned(text: str) -> dict[str, str]:
    """The known variables; the last assignment wins."""
    values = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if name not in _NAMES:
            continue
        if not equals:
            raise SubnetFileError(f"{name} has no value")
        values[name] = value
    return values


def _networks(
    values: dict[str, str], name: str, family: type[_Family]
) -> list[_Family]:
    if name not in values:
        return []
    return [_network(name, item, family) for item in values[name].split(",")]


def _network(name: str, text: str, family: type[_Family]) -> _Family:
    """The network of a CIDR such as 10.5.72.1/24."""
    try:
        if fullmatch("[^/%]*/[0-9]{1,3}", text, ASCII):  # no mask, no zone
            return family(text, strict=False)
    except ValueError:
        pass
    raise SubnetFileError(f"{name} is no CIDR address: {text!r}")


def _mtu(text: str) -> int:
    if fullmatch("[0-9]{1,10}", text, ASCII) and int(text) < 1 << 32:
        return int(text)
    raise SubnetFileError(f"{_MTU} is no whole number of 32 bits: {text!r}")
