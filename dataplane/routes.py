"""Longest-prefix match, the obvious way: a dictionary for each prefix length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from flannelette.native.api import Route

_WIDTH = {4: 32, 6: 128}
"""Bits of an address, by IP version."""
_MAC_WIDTH = 48


class RouteTable:
    """Which peer holds an address. Addresses are integers."""

    def __init__(self) -> None:
        # By IP version and length.
        self._levels: dict[tuple[int, int], dict[int, Route]] = {}
        # How many routes lead to a peer, by its IP version and address.
        self._peers: Counter[tuple[int, int]] = Counter()

    def set(self, routes: Iterable[Route]) -> None:
        """Insert or replace. Raises ValueError for a prefix with host bits, a number
        out of range, or an IPv4 prefix with a peer of IPv6; the table is then
        unchanged."""
        routes = list(routes)
        for route in routes:
            _check(route)
        for route in routes:
            level = self._levels.setdefault((route.version, route.length), {})
            replaced = level.get(route.prefix)
            level[route.prefix] = route
            self._peers[route.outer, route.address] += 1
            if replaced is not None:  # a peer that stays is known all the while
                self._forget(replaced)

    def delete(self, routes: Iterable[Route]) -> None:
        """Remove by prefix and length; unknown ones are no error."""
        for route in routes:
            level = self._levels.get((route.version, route.length), {})
            removed = level.pop(route.prefix, None)
            if removed is not None:
                self._forget(removed)
            if not level:
                self._levels.pop((route.version, route.length), None)

    def _forget(self, route: Route) -> None:
        peer = route.outer, route.address
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    @property
    def peers(self) -> Collection[tuple[int, int]]:
        """IP version and address of each peer that a route leads to."""
        return self._peers.keys()

    def is_peer(self, address: int, outer: int = 4) -> bool:
        """Does a route lead to that address, of that IP version?"""
        return (outer, address) in self._peers

    def find(self, address: int, version: int = 4) -> Route | None:
        """The route with the longest prefix that covers address."""
        for level in sorted(self._levels, reverse=True):
            if level[0] == version:
                # Another thread may just have deleted the level's last route.
                route = self._levels.get(level, {}).get(address & _mask(*level))
                if route is not None:
                    return route
        return None


def _mask(version: int, length: int) -> int:
    width = _WIDTH[version]
    return (1 << width) - (1 << width - length)


def _check(route: Route) -> None:
    if not (
        route.version in _WIDTH
        and 0 <= route.length <= _WIDTH[route.version]
        and route.prefix & ~_mask(route.version, route.length) == 0
        and route.outer in _WIDTH
        and (route.version, route.outer) != (4, 6)
        and 0 <= route.address < 1 << _WIDTH[route.outer]
        and 1 <= route.port <= 65535
        and 0 <= route.mac < 1 << _MAC_WIDTH
    ):
        raise ValueError(f"not a route: {route}")
