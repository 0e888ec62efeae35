"""Leases as flannel writes them: the key, the value, and the events about them.

A lease is a claim on a subnet. Its key names the subnet, its value (LeaseAttrs)
says how to reach the node that holds it. flannel-behaviour.md, E3, E4, L1 to L8.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, NamedTuple

from flannelette.control.gojson import GoJSONError, fold, loads_object


class LeaseFormatError(ValueError):
    """A foreign key or value is not a lease."""


_KEY = re.compile(r"([0-9.]+)-([0-9]{1,2})(?:&([0-9a-f:]+)-([0-9]{1,3}))?", re.ASCII)
_COMPACT = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_MEMBERS = (
    *("PublicIP", "PublicIPv6", "BackendType", "BackendData", "BackendV6Data"),
    "RawIPv6",  # ours
)


class Subnets(NamedTuple):
    """What a lease is on: one node's subnet, in dual stack one of each IP version."""

    v4: IPv4Network
    v6: IPv6Network | None = None

    def overlaps(self, other: Subnets) -> bool:
        """Is there an address, of whichever version, that is in both?"""
        if self.v4.overlaps(other.v4):
            return True
        return (
            self.v6 is not None and other.v6 is not None and self.v6.overlaps(other.v6)
        )

    def __str__(self) -> str:
        return ", ".join(str(subnet) for subnet in self if subnet is not None)


def subnet_key(subnet: IPv4Network, subnet6: IPv6Network | None = None) -> str:
    """The last part of a lease's key, such as `10.5.52.0-24` (E3)."""
    # str(): an address's own format() takes several times as long.
    key = f"{subnet.network_address!s}-{subnet.prefixlen}"
    if subnet6 is not None:
        key += f"&{subnet6.network_address.compressed}-{subnet6.prefixlen}"
    return key


def parse_subnet_key(key: str) -> Subnets:
    """The subnets that a key names. Raises LeaseFormatError, and nothing else.

    Stricter than flanneld, which matches only the key's end (E4): a key that is not
    what subnet_key() makes of its subnets is not a lease, so no two keys are one lease.
    Prefixes longer than /31 and /127 are unparsable to flanneld (H9), so to us.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise LeaseFormatError(f"not a subnet key: {key!r}")
    v4, v4_len, v6, v6_len = match.groups()
    try:
        # From bytes: from text it takes three times as long, and there are thousands.
        subnet = IPv4Network((bytes(map(int, v4.split("."))), int(v4_len)))
        subnet6 = IPv6Network(f"{v6}/{v6_len}") if v6 is not None else None
    except ValueError as error:
        raise LeaseFormatError(f"not a subnet key: {key!r} ({error})") from None
    if subnet.prefixlen > 31 or (subnet6 is not None and subnet6.prefixlen > 127):
        raise LeaseFormatError(f"not a subnet key: {key!r} (prefix too long)")
    if subnet_key(subnet, subnet6) != key:
        raise LeaseFormatError(f"not a subnet key: {key!r} (not canonical)")
    return Subnets(subnet, subnet6)


@dataclass(frozen=True, slots=True)
class LeaseAttrs:
    """A lease's value: who holds the subnet and how to reach it (L1, L2)."""

    public_ip: IPv4Address
    public_ipv6: IPv6Address | None = None
    backend_type: str = ""
    """Empty for flannel's udp backend, which writes no type."""
    backend_data: str | None = None
    """The backend's own JSON, verbatim and compact; None when it has none."""
    backend_v6_data: str | None = None
    raw_ipv6: bool = False
    """The node takes raw IPv6 packets in the datagrams of flannel's udp backend. Our
    own member, and the last: flanneld ignores it (L4), and gets no such packets."""

    def encode(self) -> bytes:
        """The value as flanneld writes it, member for member (L1 to L3)."""
        six = self.public_ipv6
        members: dict[str, str] = {
            "PublicIP": json.dumps(str(self.public_ip)),
            "PublicIPv6": "null" if six is None else json.dumps(six.compressed),
        }
        if self.backend_type:
            members["BackendType"] = json.dumps(self.backend_type)
        if self.backend_data is not None:
            members["BackendData"] = self.backend_data
        if self.backend_v6_data is not None:
            members["BackendV6Data"] = self.backend_v6_data
        if self.raw_ipv6:
            members["RawIPv6"] = "true"
        text = ",".join(f'"{name}":{value}' for name, value in members.items())
        return f"{{{text}}}".encode()

    @classmethod
    def decode(cls, value: bytes) -> LeaseAttrs:
        """Read a lease's value as Go would (L4). Raises only LeaseFormatError."""
        try:
            members = fold(loads_object(value), _MEMBERS)
            # null is an error for PublicIP alone; elsewhere it is "not there".
            public_ip = members["PublicIP"]
            return cls(
                public_ip=IPv4Address(_text(public_ip)),
                public_ipv6=_ipv6(members.get("PublicIPv6")),
                backend_type=_text(members.get("BackendType", "")),
                backend_data=_raw(members.get("BackendData")),
                backend_v6_data=_raw(members.get("BackendV6Data")),
                # Anybody's member of that name is no reason to lose the lease.
                raw_ipv6=members.get("RawIPv6") is True,
            )
        except KeyError as error:
            raise LeaseFormatError(f"lease has no {error.args[0]}") from None
        except (GoJSONError, ValueError, RecursionError) as error:
            raise LeaseFormatError(f"not a lease: {error}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a string is wanted, not {value!r:.40}")
    return value


def _ipv6(value: Any) -> IPv6Address | None:
    if value is None:
        return None
    address = IPv6Address(_text(value))
    if address.scope_id is not None:
        raise ValueError(f"an address without a zone is wanted, not {value!r:.60}")
    return address


def _raw(value: Any) -> str | None:
    if value is None:
        return None
    # A number such as 1e999 was read as infinity, which no JSON can say again.
    return _COMPACT.encode(value)


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim on a subnet, as the store knows it."""

    subnet: IPv4Network
    attrs: LeaseAttrs
    subnet6: IPv6Network | None = None
    permanent: bool = False
    """A reservation: it never expires, and we keep it that way."""
    expires: float | None = None
    """Unix time, seconds; None if permanent, or not asked: the store asks for our own
    lease only, since each peer's would cost a call."""
    revision: int = 0
    """The store's own mark of this very write; another writer changes it."""

    @property
    def subnets(self) -> Subnets:
        return Subnets(self.subnet, self.subnet6)

    @property
    def key(self) -> str:
        return subnet_key(self.subnet, self.subnet6)

    def written(self, expires: float | None, revision: int) -> Lease:
        """This lease after a write of ours."""
        return replace(self, expires=expires, revision=revision)


@dataclass(frozen=True, slots=True)
class Added:
    """A lease was written: new, renewed or changed. Applying it twice is harmless."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Removed:
    """The lease on these subnets was deleted, or ran out. There may be another with one
    of them: what was deleted is a key."""

    subnet: IPv4Network
    subnet6: IPv6Network | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All leases there are. An empty snapshot says so; silence never does (H1)."""

    leases: tuple[Lease, ...]


Event = Added | Removed | Snapshot
