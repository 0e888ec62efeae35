"""Which interface carries the datagrams, and which address peers send to. Pure.

flannel-behaviour.md I1, I2, I5, I6, I7.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
)
from typing import NamedTuple, TypeVar

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
    names the interface that owns it (I1).

    dual: it must have addresses of both IP versions, and default6, the IPv6 default
    route's, be the same; without, default6 and public_ipv6 are of no interest."""
    there = _Interfaces(interfaces, dual, public_ipv6 if dual else None)
    if iface:
        found = _first_found(there, iface)
    elif public_ip is not None:
        found = _by_public_ip(there, public_ip)
    elif there.public_ipv6 is not None:
        found = _by_public_ip(there, there.public_ipv6)
    else:
        found = there.by_name(_by_default_route(default, default6, dual))
    interface, address, address6 = found
    if interface.mtu <= 0:
        raise HostError(f"interface {interface.name} has no MTU")
    return External(
        interface.name,
        interface.index,
        interface.mtu,
        address,
        public_ip or address,
        address6,
        there.public_ipv6 or address6,
    )


class _Choice(NamedTuple):
    interface: Interface
    address: IPv4Address
    address6: IPv6Address | None
    """None unless dual."""


@dataclass(frozen=True, slots=True)
class _Interfaces:
    """Where to look, and what for. Lookups raise HostError."""

    all: Sequence[Interface]
    dual: bool
    public_ipv6: IPv6Address | None

    def by_value(self, value: str) -> _Choice:
        """An --iface: an address of either IP version, or a name."""
        try:
            address = ip_address(value)
        except ValueError:
            return self.by_name(value)
        choice = self.by_address(address)
        public = self.public_ipv6
        if public is not None and not _owns(choice.interface, public):  # I6
            name = choice.interface.name
            raise HostError(f"interface {name} has not the public IPv6 {public}")
        return choice

    def by_name(self, name: str) -> _Choice:
        for interface in self.all:
            if interface.name == name:
                return self._complete(interface)
        raise HostError(f"there is no interface {name}")

    def by_address(self, address: IPv4Address | IPv6Address) -> _Choice:
        for interface in self.all:
            if _owns(interface, address):
                return self._complete(interface, address)
        raise HostError(f"no interface has the address {address}")

    def _complete(
        self, interface: Interface, given: IPv4Address | IPv6Address | None = None
    ) -> _Choice:
        """Choose its addresses, those that are not given: the best ones (I5); of IPv6
        rather the public one, if it has that."""
        address = given if isinstance(given, IPv4Address) else None
        address6 = given if isinstance(given, IPv6Address) else None
        if address6 is None and self.public_ipv6 and _owns(interface, self.public_ipv6):
            address6 = self.public_ipv6
        if address is None:
            address = _best(interface, interface.addresses, 4).ip
        if not self.dual:
            address6 = None
        elif address6 is None:
            address6 = _best(interface, interface.addresses6, 6).ip
        return _Choice(interface, address, address6)


def _first_found(there: _Interfaces, iface: Sequence[str]) -> _Choice:
    reasons: list[str] = []
    for value in iface:
        try:
            choice = there.by_value(value)
        except HostError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            log.warning("passed over an --iface: reason=%r", reason)
        return choice
    raise HostError("; ".join(reasons))


def _by_public_ip(there: _Interfaces, address: IPv4Address | IPv6Address) -> _Choice:
    try:
        return there.by_address(address)
    except HostError as error:
        raise HostError(
            f"public {'IP' if address.version == 4 else 'IPv6'}: {error}; "
            f"if the address is translated, name the interface with --iface"
        ) from None


def _by_default_route(default: str | None, default6: str | None, dual: bool) -> str:
    """The name of the interface (I1). Raises HostError."""
    if default is None:
        raise HostError("no default route: name the interface with --iface")
    if dual and default6 is None:
        raise HostError("no IPv6 default route: name the interface with --iface")
    if dual and default6 != default:
        raise HostError(
            f"the default routes of IPv4 and IPv6 are on different interfaces, "
            f"{default} and {default6}: name one with --iface"
        )
    return default


def _owns(interface: Interface, address: IPv4Address | IPv6Address) -> bool:
    has: tuple[IPv4Interface | IPv6Interface, ...] = (
        *interface.addresses,
        *interface.unusable,
        *interface.addresses6,
        *interface.unusable6,
    )
    return any(own.ip == address for own in has)


T = TypeVar("T", IPv4Interface, IPv6Interface)


def _best(interface: Interface, addresses: tuple[T, ...], version: int) -> T:
    if not addresses:
        raise HostError(
            f"interface {interface.name} has no usable IPv{version} address"
        )
    return addresses[0]
