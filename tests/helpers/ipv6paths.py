"""Both paths with IPv6, and what they unwrap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flannelette.dataplane.purepath import PurePath
from flannelette.native.api import NO_OFFLOAD, Burst, Offload
from flannelette.native.fastpath import FastPath
from tests.helpers.ipv6 import ROUTE6
from tests.helpers.packets import ROUTE
from tests.helpers.twins import both

ALL = Offload.VNET | Offload.MERGE_TCP | Offload.MERGE_UDP | Offload.GSO | Offload.GRO


@contextmanager
def carrying(offloads: Offload = NO_OFFLOAD) -> Iterator[tuple[FastPath, PurePath]]:
    """FastPath beside PurePath, both with IPv6."""
    with both(offloads=offloads, ipv6=True) as (native, python):
        assert isinstance(native, FastPath)
        assert isinstance(python, PurePath)
        for path in (native, python):
            path.set_routes([ROUTE, ROUTE6])
        yield native, python


def as_bursts(packets: list[bytes]) -> list[Burst]:
    """One of one datagram for each, from 0.0.0.1."""
    return [Burst(data, max(len(data), 1), 1, 1) for data in packets]
