"""Which subnets a node takes, against an obvious twin: all that may be chosen."""

from __future__ import annotations

import json
import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import product
from typing import Any

import pytest
from hypothesis import given, strategies as st

from flannelette.control.allocate import Create, Reuse, choose
from flannelette.control.errors import NoFreeSubnet
from flannelette.control.lease import Lease, LeaseAttrs, Subnets
from flannelette.control.netconfig import NetworkConfig
from tests.helpers.allocating import OURS, THEIRS

SMALL, SMALL6 = "10.5.0.0/24", "fd00::/120"


def near(base: int, kind: type[IPv4Network] | type[IPv6Network], shift: int) -> Any:
    """Subnets in and around the small network, of any length."""
    return st.tuples(st.integers(0, 2**9 - 1), st.integers(22, 31)).map(
        lambda it: kind((base + it[0], it[1] + shift), strict=False)
    )


small_subnets: st.SearchStrategy[Subnets] = st.builds(
    Subnets,
    near(int(IPv4Address("10.5.0.0")), IPv4Network, 0),
    st.none() | near(int(IPv6Address("fd00::")), IPv6Network, 96),
)


def _small_config(
    four: tuple[int, int, int], six: tuple[int, int, int] | None
) -> NetworkConfig:
    members: dict[str, object] = {"Network": SMALL, "SubnetLen": four[0]}
    bounds = _small_bounds(*four)
    members["SubnetMin"], members["SubnetMax"] = (f"10.5.0.{it}" for it in bounds)
    if six is not None:
        members |= {"EnableIPv6": True, "IPv6Network": SMALL6}
        members["IPv6SubnetLen"] = six[0] + 96
        members["IPv6SubnetMin"], members["IPv6SubnetMax"] = (
            f"fd00::{it:x}" for it in _small_bounds(*six)
        )
    return NetworkConfig.parse(json.dumps(members))


def _small_bounds(length: int, low: int, high: int) -> list[int]:
    size = 1 << (32 - length)
    count = 256 // size
    return sorted([low % count * size, high % count * size])


numbers = st.tuples(st.integers(26, 30), st.integers(0, 63), st.integers(0, 63))
small_configs = st.builds(_small_config, numbers, st.none() | numbers)
small_leases = st.lists(
    st.builds(
        lambda subnets, public_ip, permanent: Lease(
            subnets.v4, LeaseAttrs(public_ip), subnets.v6, permanent
        ),
        small_subnets,
        st.sampled_from([OURS, THEIRS, THEIRS, THEIRS]),
        st.booleans(),
    ),
    max_size=20,
)


@given(
    small_leases,
    small_configs,
    st.none() | small_subnets,
    st.lists(small_subnets, max_size=3),
    st.integers(),
)
def test_choose_is_its_obvious_twin(
    leases: list[Lease],
    config: NetworkConfig,
    previous: Subnets | None,
    blocked: list[Subnets],
    seed: int,
) -> None:
    expected = obvious(leases, config, previous, blocked)
    if not expected:
        with pytest.raises(NoFreeSubnet):
            choose(leases, OURS, config, previous, random.Random(seed), blocked)
        return
    choice = choose(leases, OURS, config, previous, random.Random(seed), blocked)
    assert choice in expected


def obvious(
    leases: list[Lease],
    config: NetworkConfig,
    previous: Subnets | None,
    blocked: list[Subnets],
) -> list[Reuse | Create]:
    """All that may be chosen."""
    stale = None
    own = [lease for lease in leases if lease.attrs.public_ip == OURS]
    if own:
        if own[0].subnet in allowed(config) and own[0].subnet6 in allowed6(config):
            return [Reuse(own[0])]
        stale = None if own[0].permanent else own[0]
    taken = [lease.subnets for lease in leases] + blocked
    free = [
        it
        for it in allowed(config)
        if not any(it.overlaps(other.v4) for other in taken)
    ]
    free6 = [
        it
        for it in allowed6(config)
        if it is None or not any(other.v6 and it.overlaps(other.v6) for other in taken)
    ]
    if previous is not None and previous.v4 in free:
        wanted = previous.v6 if config.network6 else None
        if wanted in free6:
            return [Create(Subnets(previous.v4, wanted), stale)]
    return [Create(Subnets(*both), stale) for both in product(free, free6)]


def allowed(config: NetworkConfig) -> list[IPv4Network]:
    return [
        subnet
        for subnet in config.network.subnets(new_prefix=config.subnet_len)
        if config.subnet_min <= subnet.network_address <= config.subnet_max
    ]


def allowed6(config: NetworkConfig) -> list[IPv6Network | None]:
    low, high = config.subnet6_min, config.subnet6_max
    if config.network6 is None or low is None or high is None:
        return [None]
    return [
        subnet
        for subnet in config.network6.subnets(new_prefix=config.subnet6_len)
        if low <= subnet.network_address <= high
    ]
