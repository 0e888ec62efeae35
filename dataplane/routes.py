"""Longest-prefix match, the obvious way: a dictionary for each prefix length."""

from __future__ import annotations

from collections.abc import Iterable

from flannelette.native.api import Route


class RouteTable:
    """Which peer holds an address. Addresses are integers."""

    def __init__(self) -> None:
        self._by_length: dict[int, dict[int, Route]] = {}

    def set(self, routes: Iterable[Route]) -> None:
        """Insert or replace. Raises ValueError for a prefix with host bits, or a length
        or port out of range; the table is then unchanged."""
        routes = list(routes)
        for route in routes:
            _check(route)
        for route in routes:
            self._by_length.setdefault(route.length, {})[route.prefix] = route

    def delete(self, routes: Iterable[Route]) -> None:
        """Remove by prefix and length; unknown ones are no error."""
        for route in routes:
            level = self._by_length.get(route.length, {})
            level.pop(route.prefix, None)
            if not level:
                self._by_length.pop(route.length, None)

    def find(self, address: int) -> Route | None:
        """The route with the longest prefix that covers address."""
        for length in sorted(self._by_length, reverse=True):
            route = self._by_length[length].get(address & _mask(length))
            if route is not None:
                return route
        return None


def _mask(length: int) -> int:
    return 0xFFFFFFFF << (32 - length) & 0xFFFFFFFF


def _check(route: Route) -> None:
    if (
        not 0 <= route.length <= 32
        or route.prefix & ~_mask(route.length)
        or not 1 <= route.port <= 65535
    ):
        raise ValueError(f"not a route: {route}")
