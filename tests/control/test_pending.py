"""Changes that are gathered come to the same as one after the other."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given, strategies as st

from flannelette.control.backends.backend import Routes, Subnet
from flannelette.control.pending import Pending
from flannelette.control.table import Change, DelRoute, Ignored, SetRoute
from flannelette.dataplane.forwarder import Route

SUBNETS = [IPv4Network((10 << 24 | n << 8, 24)) for n in range(4)]
subnets = st.sampled_from(SUBNETS)


def route(subnet: IPv4Network, peer: int) -> Route:
    return Route.to(subnet, IPv4Address(peer), 8285)


changes = st.one_of(
    st.builds(
        lambda subnet, peer: SetRoute(subnet, route(subnet, peer)),
        subnets,
        st.integers(1, 3),
    ),
    st.builds(DelRoute, subnets),
    st.just(Ignored((SUBNETS[0], None), "not ours")),  # type: ignore[arg-type]  # of subnets it is the shape alone that counts
)


def carried(routes: Routes, removed: list[Subnet], added: Routes) -> None:
    for subnet in removed:
        routes.pop(subnet, None)
    routes |= added


@given(st.lists(st.lists(changes)))
def test_the_result_is_the_same(batches: list[list[Change]]) -> None:
    pending, gathered, singly = Pending(), dict[Subnet, Route](), dict[Subnet, Route]()
    for batch in batches:
        for change in batch:
            match change:
                case SetRoute(subnet, way):
                    singly[subnet] = way
                case DelRoute(subnet):
                    singly.pop(subnet, None)
        pending.add(batch)
        removed, added = pending.take()
        assert not set(removed) & added.keys()
        carried(gathered, removed, added)
        assert gathered == singly
    assert pending.take() == ([], {})
