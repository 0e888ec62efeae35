"""What the next daemon must know to forward with the descriptors of this one. Pure.

One JSON object, written by a daemon for the next one of any version: a version that is
not ours, as anything else that is strange, means to start from scratch.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec

from flannelette.dataplane.forwarder import MAX_QUEUES, Endpoint, Route
from flannelette.dataplane.routes import RouteTable
from flannelette.dataplane.underlay import FLOWS

VERSION = 1
_MTUS = range(68, 65508)
_MTUS6 = range(1280, 65508)


class HandoverError(Exception):
    """What a daemon left cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What the descriptors were opened for."""

    address: IPv4Address
    """The underlay's sockets are bound to it."""
    port: int
    address6: IPv6Address | None
    queues: int
    flows: int
    """Sockets that only send, of each IP version."""
    offload: frozenset[str]
    """What was wished for, of forwarder.OFFLOADS."""


@dataclass(frozen=True, slots=True)
class Tun:
    """A TunDevice without its descriptors."""

    name: str
    vnet: bool
    tso: bool
    uso: bool
    unsteered: int
    """errno; 0: its flows keep their queues."""


@dataclass(frozen=True, slots=True)
class Document:
    """All of it."""

    opened: Opened
    tun: Tun
    endpoint: Endpoint
    routes: list[Route]
    version: int = VERSION


def encode(document: Document) -> bytes:
    """As JSON. Ten thousand routes take a few milliseconds."""
    return msgspec.json.encode(document, enc_hook=str)


def decode(text: bytes) -> Document:
    """Any bytes give a document that can be used, or HandoverError."""
    try:
        found = msgspec.json.decode(text, type=Document, dec_hook=_address)
    except (msgspec.DecodeError, RecursionError) as error:
        raise HandoverError(f"its document is none: {error}") from None
    if found.version != VERSION:
        raise HandoverError(f"its document has version {found.version}, not {VERSION}")
    _check(found)
    return found


def _address(kind: type, value: Any) -> Any:
    """Raises ValueError, which msgspec tells as its own."""
    if not isinstance(value, str):
        raise ValueError("an address is a string")
    address = kind(value)
    if getattr(address, "scope_id", None) is not None:
        raise ValueError("an address has no zone")
    return address


def _check(document: Document) -> None:
    """Raises HandoverError for what has the right type and no meaning."""
    opened, endpoint, vxlan = (
        document.opened,
        document.endpoint,
        document.endpoint.vxlan,
    )
    sound = (
        1 <= opened.port <= 65535
        and 1 <= opened.queues <= MAX_QUEUES
        and opened.flows in (0, FLOWS)
        and endpoint.mtu in _MTUS
        and (endpoint.mtu6 in _MTUS6 if endpoint.mtu6 else True)
        and (vxlan is None or (0 <= vxlan.vni < 1 << 24 and 0 <= vxlan.mac < 1 << 48))
        and 0 <= document.tun.unsteered < 4096
    )
    if not sound:
        raise HandoverError("its document has a number out of range")
    try:
        RouteTable().set(document.routes)
    except ValueError as error:
        raise HandoverError(f"its document has {error}") from None
