"""Which interface carries the datagrams, and which address peers send to. Pure.

flannel-behaviour.md I1, I2, I5, I7, for IPv4.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from flannelette.control.errors import HostError
from flannelette.tun.interfaces import Interface

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class External:
    """The external interface (I7)."""

    name: str
    index: int
    mtu: int
    """Bytes; the overlay's is smaller by the encapsulation."""
    address: IPv4Address
    """Its own address, which we bind to and send from (U6)."""
    public_ip: IPv4Address
    """What peers send to: --public-ip, or the same address."""
    address6: IPv6Address | None = None
    """The same for IPv6; None unless the network is dual-stack."""
    public_ipv6: IPv6Address | None = None


def select(
    interfaces: Sequence[Interface],
    default: str | None,
    iface: Sequence[str],
    public_ip: IPv4Address | None,
    *,
    dual: bool = False,
    default6: str | None = None,
    public_ipv6: IPv6Address | None = None,
) -> External:
    """Choose among this machine's interfaces. Raises HostError.

    default: the interface of the default route. iface: names or addresses, the first
    that is found wins (I2). With neither iface nor default route needed, public_ip
    names the interface that owns it (I1)."""
    if iface:
        found, address = _first_found(interfaces, iface)
    elif public_ip is not None:
        try:
            found, address = _by_address(interfaces, public_ip)
        except HostError as error:
            raise HostError(
                f"public IP: {error}; if the address is translated, "
                f"name the interface with --iface"
            ) from None
    elif default is not None:
        found, address = _by_name(interfaces, default)
    else:
        raise HostError("no default route: name the interface with --iface")
    if found.mtu <= 0:
        raise HostError(f"interface {found.name} has no MTU")
    return External(found.name, found.index, found.mtu, address, public_ip or address)


Choice = tuple[Interface, IPv4Address]


def _first_found(interfaces: Sequence[Interface], iface: Sequence[str]) -> Choice:
    reasons: list[str] = []
    for value in iface:
        try:
            choice = _by_value(interfaces, value)
        except HostError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            log.warning("passed over an --iface: reason=%r", reason)
        return choice
    raise HostError("; ".join(reasons))


def _by_value(interfaces: Sequence[Interface], value: str) -> Choice:
    try:
        address = IPv4Address(value)
    except AddressValueError:
        return _by_name(interfaces, value)
    return _by_address(interfaces, address)


def _by_name(interfaces: Sequence[Interface], name: str) -> Choice:
    for interface in interfaces:
        if interface.name == name:
            if not interface.addresses:
                raise HostError(f"interface {name} has no usable IPv4 address")
            return interface, interface.addresses[0].ip
    raise HostError(f"there is no interface {name}")


def _by_address(interfaces: Sequence[Interface], address: IPv4Address) -> Choice:
    for interface in interfaces:
        for own in (*interface.addresses, *interface.unusable):
            if own.ip == address:
                return interface, address
    raise HostError(f"no interface has the address {address}")
