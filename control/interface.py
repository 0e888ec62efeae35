"""Which interface carries the datagrams, and which address peers send to.

flannel-behaviour.md I1 to I7. look() asks the kernel, select() is pure, and choose()
does both for the daemon, and tells.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
)
from typing import NamedTuple, TypeVar

from flannelette.control.config import Config
from flannelette.control.errors import HostError
from flannelette.tun.interfaces import Interface
from flannelette.tun.link import Netlink
from flannelette.tun.repairs import Address
from flannelette.tun.routes import Exit

log = logging.getLogger(__name__)

T = TypeVar("T", IPv4Interface, IPv6Interface)


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
    passed_over: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """Flags that were asked before, and why what they name is not it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the kernel says that the choice depends on."""

    interfaces: Sequence[Interface]
    default: str | None = None
    """The interface of the default route, if there is one."""
    default6: str | None = None
    """The IPv6 default route's; of no interest unless the network is dual-stack."""
    exit: Exit | None = None
    """Where packets to --iface-can-reach leave, if they do."""


async def choose(netlink: Netlink, config: Config) -> External:
    """While it is not known whether the network is dual-stack. Raises HostError,
    OSError."""
    external = select(await look(netlink, config), config)
    _tell(external)
    return external


async def choose_dual(netlink: Netlink, config: Config, before: External) -> External:
    """For a dual-stack network, after choose(): what that has told is not told again.
    Raises as choose()."""
    machine = await look(netlink, config, dual=True)
    external = select(machine, config, dual=True, before=before)
    if replace(external, address6=None, public_ipv6=None) != before:
        _tell(external)
    six = external.address6, external.public_ipv6
    log.info("its IPv6: address=%s public_ip=%s", *six)
    return external


def _tell(external: External) -> None:
    log.info(
        "external interface: name=%s address=%s public_ip=%s mtu=%d",
        external.name,
        external.address,
        external.public_ip,
        external.mtu,
    )


async def look(netlink: Netlink, config: Config, *, dual: bool = False) -> Machine:
    """Ask the kernel what select() needs. Raises OSError."""
    reach = config.iface_can_reach
    return Machine(
        await netlink.interfaces(),
        await netlink.default_interface(),
        await netlink.default_interface(6) if dual else None,
        None if reach is None else await netlink.exit_to(reach),
    )


def select(
    machine: Machine,
    config: Config,
    *,
    dual: bool = False,
    before: External | None = None,
) -> External:
    """Choose among this machine's interfaces. Raises HostError.

    Of --iface, --iface-regex and --iface-can-reach, in this order, the first that finds
    one wins (I2). Without any of them, the public IP names the interface that owns it,
    else the default route its own (I1).

    dual: it must have addresses of both IP versions, and the default routes of both be
    its own; without, --public-ipv6 is of no interest but in place of a default route:
    whether the network is dual-stack is not known at first. What was passed over is
    logged, but for what was so in the choice `before` this one."""
    public_ipv6 = config.public_ipv6 if dual else None
    there = _Interfaces(machine.interfaces, dual, public_ipv6)
    passed_over: list[tuple[str, str]] = []
    if lookups := list(_lookups(there, config, machine.exit)):
        found = _first_found(lookups, passed_over)
    elif config.public_ip is not None:
        found = _by_public_ip(there, config.public_ip)
    elif config.public_ipv6 is not None and (dual or machine.default is None):
        found = _by_public_ip(there, config.public_ipv6)
    else:
        found = there.by_name(_by_default_route(machine, dual))
    for flag, reason in passed_over:
        if before is None or (flag, reason) not in before.passed_over:
            log.warning("passed over: flag=--%s reason=%r", flag, reason)
    interface, address, address6 = found
    if interface.mtu <= 0:
        raise HostError(f"interface {interface.name} has no MTU")
    return External(
        interface.name,
        interface.index,
        interface.mtu,
        address,
        config.public_ip or address,
        address6,
        public_ipv6 or address6,
        tuple(passed_over),
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
        return self._complete(self._named(name))

    def by_address(self, address: Address) -> _Choice:
        for interface in self.all:
            if _owns(interface, address):
                return self._complete(interface, address)
        raise HostError(f"no interface has the address {address}")

    def by_regex(self, pattern: str) -> _Choice:
        """Of its usable addresses, in dual stack one of either IP version; else of its
        name (I3)."""
        search = re.compile(pattern, re.ASCII).search

        def matching(addresses: tuple[T, ...]) -> list[T]:
            return [own for own in addresses if search(str(own.ip))]

        for interface in self.all:
            four = matching(interface.addresses)
            six = matching(interface.addresses6) if self.dual else []
            if four and bool(six) == self.dual:
                best: list[IPv4Interface | IPv6Interface] = [*four[:1], *six[:1]]
                return self._complete(interface, *(own.ip for own in best))
        for interface in self.all:
            if search(interface.name):
                return self._complete(interface)
        raise HostError(f"no interface matches the regular expression {pattern!r}")

    def by_exit(self, reach: Address, exit: Exit | None) -> _Choice:
        """Where packets to that address leave, from the address that they have (I4)."""
        if exit is None:
            raise HostError(f"packets to {reach} do not leave this machine")
        interface = self._named(exit.interface)
        return self._complete(interface, *([exit.source] if exit.source else []))

    def _named(self, name: str) -> Interface:
        for interface in self.all:
            if interface.name == name:
                return interface
        raise HostError(f"there is no interface {name}")

    def _complete(self, interface: Interface, *given: Address) -> _Choice:
        """Choose its addresses, those that are not given: the best ones (I5); of IPv6
        rather the public one, if it has that."""
        address = next((it for it in given if isinstance(it, IPv4Address)), None)
        address6 = next((it for it in given if isinstance(it, IPv6Address)), None)
        if address6 is None and self.public_ipv6 and _owns(interface, self.public_ipv6):
            address6 = self.public_ipv6
        if address is None:
            address = _best(interface, interface.addresses, 4).ip
        if not self.dual:
            address6 = None
        elif address6 is None:
            address6 = _best(interface, interface.addresses6, 6).ip
        return _Choice(interface, address, address6)


class _Lookup(NamedTuple):
    flag: str
    find: Callable[[], _Choice]
    """Raises HostError."""


def _lookups(
    there: _Interfaces, config: Config, exit: Exit | None
) -> Iterator[_Lookup]:
    for value in config.iface:
        yield _Lookup("iface", partial(there.by_value, value))
    for pattern in config.iface_regex:
        yield _Lookup("iface-regex", partial(there.by_regex, pattern))
    if (reach := config.iface_can_reach) is not None:
        yield _Lookup("iface-can-reach", partial(there.by_exit, reach, exit))


def _first_found(
    lookups: Sequence[_Lookup], passed_over: list[tuple[str, str]]
) -> _Choice:
    """And those before it, with the reason."""
    for flag, find in lookups:
        try:
            return find()
        except HostError as error:
            passed_over.append((flag, str(error)))
    raise HostError("; ".join(reason for _, reason in passed_over))


def _by_public_ip(there: _Interfaces, address: Address) -> _Choice:
    try:
        return there.by_address(address)
    except HostError as error:
        raise HostError(
            f"public {'IP' if address.version == 4 else 'IPv6'}: {error}; "
            f"if the address is translated, name the interface with --iface"
        ) from None


def _by_default_route(machine: Machine, dual: bool) -> str:
    """The name of the interface (I1). Raises HostError."""
    default, default6 = machine.default, machine.default6
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


def _owns(interface: Interface, address: Address) -> bool:
    has: tuple[IPv4Interface | IPv6Interface, ...] = (
        *interface.addresses,
        *interface.unusable,
        *interface.addresses6,
        *interface.unusable6,
    )
    return any(own.ip == address for own in has)


def _best(interface: Interface, addresses: tuple[T, ...], version: int) -> T:
    if not addresses:
        raise HostError(
            f"interface {interface.name} has no usable IPv{version} address"
        )
    return addresses[0]
