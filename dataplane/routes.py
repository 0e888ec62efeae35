"""Longest-prefix match, the obvious way: a dictionary for each prefix length."""

from __future__ import annotations

from collections.abc import Iterable

from flannelette.native.api import Route

_WIDTH = {4: 32, 6: 128}
"""Bits of an address, by IP version."""


class RouteTable:
    """Which peer holds an address. Addresses are integers."""

    def __init__(self) -> None:
        # By IP version and length.
        self._levels: dict[tuple[int, int], dict[int, Route]] = {}

    def set(self, routes: Iterable[Route]) -> None:
        """Insert or replace. Raises ValueError for a prefix with host bits, or a length
        or port out of range; the table is then unchanged."""
        routes = list(routes)
        for route in routes:
            _check(route)
        for route in routes:
            level = self._levels.setdefault((route.version, route.length), {})
            level[route.prefix] = route

    def delete(self, routes: Iterable[Route]) -> None:
        """Remove by prefix and length; unknown ones are no error."""
        for route in routes:
            level = self._levels.get((route.version, route.length), {})
            level.pop(route.prefix, None)
            if not level:
                self._levels.pop((route.version, route.length), None)

    def find(self, address: int, version: int = 4) -> Route | None:
        """The route with the longest prefix that covers address."""
        for level in sorted(self._levels, reverse=True):
            if level[0] == version:
                route = self._levels[level].get(address & _mask(*level))
                if route is not None:
                    return route
        return None


def _mask(version: int, length: int) -> int:
    width = _WIDTH[version]
    return (1 << width) - (1 << width - length)


def _check(route: Route) -> None:
    if (
        not 0 <= route.length <= _WIDTH[route.version]
        or route.prefix & ~_mask(route.version, route.length)
        or not 1 <= route.port <= 65535
    ):
        raise ValueError(f"not a route: {route}")
