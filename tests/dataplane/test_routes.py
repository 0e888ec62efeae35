"""RouteTable against the slowest router there is."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from flannelette.dataplane.routes import RouteTable
from flannelette.native.api import Route
from tests.helpers.packets import addresses, routes


def slow_find(known: list[Route], address: int) -> Route | None:
    best = None
    for route in known:
        shift = 32 - route.length
        covers = route.prefix >> shift == address >> shift
        if covers and (best is None or route.length > best.length):
            best = route
    return best


@given(st.lists(routes, max_size=12), st.lists(routes, max_size=4), addresses)
def test_longest_prefix_wins(
    added: list[Route], deleted: list[Route], address: int
) -> None:
    table = RouteTable()
    table.set(added)
    table.delete(deleted)
    last = {(route.prefix, route.length): route for route in added}
    for route in deleted:
        last.pop((route.prefix, route.length), None)
    assert table.find(address) == slow_find(list(last.values()), address)


@pytest.mark.parametrize(
    "wrong", [Route(1, 24, 1, 1), Route(0, 33, 1, 1), Route(0, 0, 1, 0)]
)
def test_no_route(wrong: Route) -> None:
    table = RouteTable()
    with pytest.raises(ValueError, match="not a route"):
        table.set([Route(0, 0, 1, 1), wrong])
    assert table.find(0) is None, "a refused set changes nothing"
