"""Both paths side by side, without descriptors."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from flannelette.dataplane.path import Path, open_path
from flannelette.native.api import NO_OFFLOAD, Burst, Offload, PathConfig
from tests.helpers.packets import MTU, TUN_ADDRESS

Datagram = tuple[int, int, bytes]


@contextmanager
def both(
    mtu: int = MTU, offloads: Offload = NO_OFFLOAD, ipv6: bool = False
) -> Iterator[list[Path]]:
    """FastPath and PurePath; the offloads are the first one's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        config = PathConfig(
            -1,
            sock.fileno(),
            -1,
            mtu,
            int(TUN_ADDRESS),
            offloads=offloads,
            mtu6=mtu if ipv6 else 0,
        )
        plain = replace(config, offloads=NO_OFFLOAD)
        paths = [open_path("native", config), open_path("python", plain)]
        try:
            yield paths
        finally:
            for path in paths:
                path.close()


def datagrams(bursts: Sequence[Burst]) -> list[Datagram]:
    return [
        (burst.address, burst.port, burst.data[start : start + burst.segment])
        for burst in bursts
        for start in range(0, len(burst.data), burst.segment)
    ]
