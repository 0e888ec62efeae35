"""Both paths side by side, without descriptors."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any

from flannelette.dataplane.path import Path, open_path
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    NO_OFFLOAD,
    Burst,
    Counters,
    Direction,
    Offload,
    PathConfig,
    PeerCounters,
)
from tests.helpers.packets import MTU, TUN_ADDRESS

TUN_ADDRESS6 = IPv6Address("fd00:1::")

Datagram = tuple[int, int, bytes]


@contextmanager
def both(
    mtu: int = MTU,
    offloads: Offload = NO_OFFLOAD,
    ipv6: bool = False,
    **settings: Any,
) -> Iterator[list[Path]]:
    """FastPath and PurePath; the offloads are the first one's. `settings` are further
    members of PathConfig."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        config = PathConfig(
            -1,
            sock.fileno(),
            -1,
            mtu,
            int(TUN_ADDRESS),
            offloads=offloads,
            mtu6=mtu if ipv6 else 0,
            address6=int(TUN_ADDRESS6),
        )
        # Sockets by flow are not used here, but for how many they are.
        flows = settings.pop("flows", 0)
        flow_fds = (sock.fileno(),) * flows
        config = replace(config, flow_fds=flow_fds, flow6_fds=flow_fds[:-1])
        config = replace(config, **settings)
        plain = replace(config, offloads=NO_OFFLOAD)
        paths = [open_path("native", config), open_path("python", plain)]
        try:
            yield paths
        finally:
            for path in paths:
                path.close()


def counts(path: Path) -> tuple[Counters, Counters, list[PeerCounters]]:
    """All that a path has counted."""
    tx, rx = (path.counters(direction) for direction in Direction)
    return tx, rx, sorted(path.peers())


def as_twins_count(counters: Counters, batch: int) -> Counters:
    """Without what must differ: a call that moves many is one call less for each; and
    of a datagram that is too long anyway, not every path takes all."""
    if counters.drops[Drop.OVERSIZE]:
        counters = replace(counters, message_bytes=0)
    return counters if batch == 1 else replace(counters, wire_calls=0)


def datagrams(bursts: Sequence[Burst]) -> list[Datagram]:
    return [
        (burst.address, burst.port, burst.data[start : start + burst.segment])
        for burst in bursts
        for start in range(0, len(burst.data), burst.segment)
    ]


def sent(bursts: Sequence[Burst]) -> list[Burst]:
    """The same as bursts of one datagram each, with all that is said of them."""
    return [
        burst._replace(data=data, segment=len(data))
        for burst in bursts
        for _, _, data in datagrams([burst])
    ]
