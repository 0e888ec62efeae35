"""Both paths with VXLAN, and a peer on each underlay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from flannelette.dataplane.path import Path
from flannelette.encap.drop import Drop
from flannelette.native.api import Burst, Direction, Route
from tests.helpers.packets import PEER, ROUTE
from tests.helpers.twins import both
from tests.helpers.vxlans import OWN, PEER_MAC

PEER6 = IPv6Address("2001:db8::2")
NETWORK6 = IPv6Network("fd00::/64")
OVER6 = Route.to(NETWORK6, PEER6, 8472, PEER_MAC)
OVER4 = ROUTE._replace(mac=PEER_MAC)


@contextmanager
def tunnels(**config: Any) -> Iterator[list[Path]]:
    """Both paths with VXLAN and IPv6, unless told otherwise, and a peer of each."""
    members: dict[str, Any] = {"vxlan": OWN, "ipv6": True} | config
    with both(**members) as paths:
        for path in paths:
            path.set_routes([OVER4, OVER6])
        yield paths


def from_peer(data: bytes, segment: int = 0, outer: int = 4) -> Burst:
    address = int(PEER) if outer == 4 else int(PEER6)
    return Burst(data, segment or max(len(data), 1), address, 8472, outer)


def dropped(path: Path, direction: Direction) -> dict[Drop, int]:
    drops = path.counters(direction).drops
    return {Drop(i): count for i, count in enumerate(drops) if count}
