"""What the daemon's flags may be: each function reads one, or raises ValueError, which
says what is wanted. Pure.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from pathlib import Path

from flannelette.control import goflags
from flannelette.control.errors import ConfigError
from flannelette.dataplane.forwarder import MAX_BATCH, MAX_QUEUES, OFFLOADS


@dataclass(frozen=True, slots=True)
class Etcd:
    """Leases live in etcd; the etcd_* fields say where."""


@dataclass(frozen=True, slots=True)
class Local:
    """Leases live in an SQLite file that the nodes of one machine share."""

    path: Path


@dataclass(frozen=True, slots=True)
class Static:
    """A TOML file lists the peers."""

    path: Path


StoreChoice = Etcd | Local | Static


def store(text: str) -> StoreChoice:
    """`etcd`, `local:PATH` or `static:FILE`. Raises ValueError."""
    kind, _, path = text.partition(":")
    if text == "etcd":
        return Etcd()
    if kind == "local" and path:
        return Local(Path(path))
    if kind == "static" and path:
        return Static(Path(path))
    raise ValueError("etcd, local:PATH or static:FILE.toml is wanted")


_ENDPOINT = re.compile(
    r"(?:https?://)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})/?"
)
_HOST = re.compile(r"(?=.{1,253}\Z)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_NUMBER = re.compile(r"(?:[^.]*\.)*(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")
"""Ends as no name does, but as the C library's addresses do: 127.1, 0x7f000001."""
_IFNAME = re.compile(r"(?!\.{1,2}$)[^\s/:]{1,15}")


def present(text: str) -> str:
    if not text:
        raise ValueError("it must not be empty")
    return text


def path(text: str) -> Path:
    return Path(present(text))


def path_or_none(text: str) -> Path | None:
    return Path(text) if text else None


def endpoints(text: str) -> tuple[str, ...]:
    if "@" in text:  # not a ValueError, whose report would show the password
        raise ConfigError(
            "--etcd-endpoints must not name a user: give --etcd-username and "
            "--etcd-password"
        )
    endpoints = tuple(text.split(","))
    for endpoint in endpoints:
        match = _ENDPOINT.fullmatch(endpoint)
        if match is None or not 1 <= int(match[1]) <= 65535:
            raise ValueError("http://HOST:PORT or https://HOST:PORT is wanted")
    return endpoints


def iface(text: str) -> str:
    """A name as the kernel allows them, which covers every IPv4 address too; or an
    IPv6 address."""
    if not _IFNAME.fullmatch(text) and not _is_ipv6(text):
        raise ValueError("an interface name or an address is wanted")
    return text


def _is_ipv6(text: str) -> bool:
    try:
        return IPv6Address(text).scope_id is None
    except AddressValueError:
        return False


def regex(text: str) -> str:
    """A regular expression that Python reads as Go does: Go has POSIX's classes of
    characters besides, which Python takes for something else, with a FutureWarning."""
    present(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            re.compile(text, re.ASCII)
        except RecursionError:
            raise ValueError("it is no regular expression: too deep") from None
        except (re.error, OverflowError, ValueError) as error:
            raise ValueError(f"it is no regular expression: {error}") from None
        except Warning:
            raise ValueError(
                "it is no regular expression without doubt: escape what stands for "
                "itself, and write [0-9] for [[:digit:]]"
            ) from None
    return text


def address(text: str) -> IPv4Address | IPv6Address:
    """One to listen at."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address is wanted") from None
    if address.is_multicast:
        raise ValueError("a unicast address is wanted")
    return address


def listened(text: str) -> IPv4Address | IPv6Address | str:
    """An address to listen at, or the name of one; empty: every address there is."""
    if not text:
        return IPv4Address("0.0.0.0")
    if _HOST.fullmatch(text) and not _NUMBER.fullmatch(text):
        return text
    try:
        return address(text)
    except ValueError:
        raise ValueError("a unicast address or a host's name is wanted") from None


def reachable(text: str) -> IPv4Address | IPv6Address | None:
    """One to send to."""
    if not text:
        return None
    found = address(text)
    if found.is_unspecified or (found.version == 6 and "%" in text):
        raise ValueError("a unicast address is wanted")
    return found


def unicast(text: str) -> IPv4Address | None:
    if not text:
        return None
    try:
        address = IPv4Address(text)
    except AddressValueError:
        raise ValueError("an IPv4 address is wanted") from None
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        raise ValueError("a unicast address is wanted")
    return address


def unicast6(text: str) -> IPv6Address | None:
    if not text:
        return None
    if not _is_ipv6(text):
        raise ValueError("an IPv6 address is wanted")
    address = IPv6Address(text)
    if address.is_unspecified or address.is_multicast or address.is_link_local:
        raise ValueError("a unicast address that is not link-local is wanted")
    return address


def _number(least: int, most: int, unit: str) -> Callable[[str], int]:
    """A parser of whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        number = goflags.integer(text)
        if not least <= number <= most:
            raise ValueError(f"{least} to {most} {unit} are wanted")
        return number

    return parse


minutes = _number(1, 1439, "minutes")
queues = _number(1, MAX_QUEUES, "queues")
batch = _number(1, MAX_BATCH, "packets")
seconds = _number(1, 86400, "seconds")
rounds = _number(0, 2**32 - 1, "rounds")


def port(text: str) -> int:
    number = goflags.integer(text)
    if not 0 <= number <= 65535:
        raise ValueError("a port from 0 to 65535 is wanted")
    return number


def level(text: str) -> int:
    level = goflags.integer(text)
    if level < 0:
        raise ValueError("it must not be negative")
    return level


def offload(text: str) -> frozenset[str]:
    if text == "auto":
        return frozenset(OFFLOADS)
    chosen = frozenset() if text == "none" else frozenset(text.split(","))
    if not chosen <= set(OFFLOADS):
        raise ValueError(f"auto, none, or some of {','.join(OFFLOADS)} are wanted")
    return chosen


def levels_of_files(text: str) -> str:
    """klog's vmodule."""
    if not re.fullmatch(r"(?:[^,=]+=[0-9]+(?:,|$))*", text):
        raise ValueError("PATTERN=LEVEL,... is wanted")
    return text


def line_of_file(text: str) -> str:
    """klog's log_backtrace_at."""
    if not re.fullmatch(r"(?:[^:]+\.[^:]+:0*[1-9][0-9]*)?", text):
        raise ValueError("FILE.go:LINE is wanted")
    return text
