"""subnet.env: how container runtimes learn the node's subnet, and we our last one.

flannel-behaviour.md S1 to S3, E15.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from errno import EINVAL, EISDIR
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TypeVar

from flannelette.control import atomicfile
from flannelette.control.lease import Lease, Subnets
from flannelette.control.netconfig import NetworkConfig

_SIZE_MAX = 65536
"""Bytes of a subnet file that are read; a real one has about a hundred."""
_ASSIGNMENT = r"\s*(?:export\s+)?{}\s*[=:](.*)"

_Network = TypeVar("_Network", IPv4Network, IPv6Network)


def check(path: Path) -> None:
    """Find out early whether write() will be able to, and previous_subnets(); it makes
    the directory, too. Raises OSError."""
    try:
        make_directory(path.parent)
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
        if path.exists() and not path.is_file():  # a device would be replaced
            raise OSError(EINVAL, "Not a regular file", str(path))
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as file:
            file.write(bytes(512))  # an empty file fits on a full disk, too
    except OSError as error:
        error.add_note(f"the subnet file {path} cannot be written")
        raise
    with suppress(FileNotFoundError):
        read(path)


def write(
    path: Path, network: NetworkConfig, lease: Lease, mtu: int, ipmasq: bool = False
) -> None:
    """Write the file as flanneld does (S1), so that a reader sees old or new (S2).

    FLANNEL_SUBNET is the subnet's first host address, the bridge's, and so is
    FLANNEL_IPV6_SUBNET in dual stack. Mode 0644 whatever the umask. Raises OSError, and
    then leaves no file of its own behind."""
    subnet, subnet6 = lease.subnets
    lines = [
        f"FLANNEL_NETWORK={network.network}",
        f"FLANNEL_SUBNET={subnet.network_address + 1}/{subnet.prefixlen}",
    ]
    if subnet6 is not None:
        lines += [
            f"FLANNEL_IPV6_NETWORK={network.network6}",
            f"FLANNEL_IPV6_SUBNET={subnet6.network_address + 1}/{subnet6.prefixlen}",
        ]
    lines += [
        f"FLANNEL_MTU={mtu}",
        f"FLANNEL_IPMASQ={'true' if ipmasq else 'false'}",
    ]
    text = "\n".join(lines) + "\n"
    try:
        make_directory(path.parent)
        atomicfile.write(path, text)
    except OSError as error:
        error.add_note(f"while writing the subnet file {path}")
        raise


def read(path: Path) -> str:
    """What the file says, whatever bytes it has. Raises OSError."""
    try:
        with open(path, "rb") as file:
            return file.read(_SIZE_MAX).decode(errors="replace")
    except OSError as error:
        error.add_note(f"while reading the subnet file {path}")
        raise


def previous_subnets(path: Path) -> Subnets | None:
    """The subnets that the file remembers, for us to ask for again (E15).

    None if there is no file, or it names no IPv4 subnet, or more than one; an IPv6
    subnet alone is of no use. Bytes of any kind give a result; raises OSError when the
    file cannot be read."""
    try:
        text = read(path)
    except FileNotFoundError:
        return None
    subnet = _assigned(text, "FLANNEL_SUBNET", IPv4Network)
    if subnet is None:
        return None
    return Subnets(subnet, _assigned(text, "FLANNEL_IPV6_SUBNET", IPv6Network))


def _assigned(text: str, name: str, family: type[_Network]) -> _Network | None:
    """The one subnet that the variable's last assignment names."""
    assignment = re.compile(_ASSIGNMENT.format(name), re.DOTALL)
    matches = [assignment.match(line) for line in text.split("\n")]
    values = [_unquoted(match[1].strip()) for match in matches if match]
    items = values[-1].split(",") if values else []
    subnets = [it for item in items if (it := _subnet(item, family)) is not None]
    return subnets[0] if len(subnets) == 1 else None


def make_directory(path: Path) -> None:
    """Create the directory, and those above it that are missing, with mode 0755."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with suppress(FileExistsError):  # another node of this machine was faster
        path.mkdir()
        path.chmod(0o755)


def _unquoted(value: str) -> str:
    """A dotenv value without its quotes or its comment."""
    if value.startswith(('"', "'")):
        return value[1:].partition(value[0])[0]
    return re.split(r"\s#", value, maxsplit=1)[0]


def _subnet(text: str, family: type[_Network]) -> _Network | None:
    """The network of a CIDR such as 10.5.72.1/24; None for anything else."""
    text = text.strip()
    if not re.fullmatch("[^/%]*/[0-9]{1,3}", text, re.ASCII):  # no mask, no zone
        return None
    try:
        return family(text, strict=False)
    except ValueError:
        return None
