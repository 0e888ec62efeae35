"""Which subnet a node takes: the rules, and an obvious twin."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest
from hypothesis import given, strategies as st

from flannelette.control.allocate import CANDIDATES, Create, Reuse, choose
from flannelette.control.errors import NoFreeSubnet
from flannelette.control.lease import Lease, LeaseAttrs, Subnets
from flannelette.control.netconfig import NetworkConfig

CONFIG = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
OURS = IPv4Address("192.0.2.1")
THEIRS = IPv4Address("192.0.2.2")


def lease(
    subnet: str,
    public_ip: IPv4Address,
    permanent: bool = False,
    subnet6: str | None = None,
) -> Lease:
    six = None if subnet6 is None else IPv6Network(subnet6)
    return Lease(IPv4Network(subnet), LeaseAttrs(public_ip), six, permanent)


def pick(
    *leases: Lease,
    previous: str | None = None,
    blocked: Sequence[str] = (),
    config: NetworkConfig = CONFIG,
    seed: int = 1,
) -> Reuse | Create:
    return choose(
        leases,
        OURS,
        config,
        None if previous is None else Subnets(IPv4Network(previous)),
        random.Random(seed),
        [Subnets(IPv4Network(subnet)) for subnet in blocked],
    )


def test_our_lease_by_public_ip_is_used_again() -> None:
    """E14, T31: before `previous`, and whoever is beside it."""
    own = lease("10.5.7.0/24", OURS)
    assert pick(lease("10.5.6.0/24", THEIRS), own, previous="10.5.9.0/24") == Reuse(own)


def test_the_first_of_our_leases_counts() -> None:
    """E14: in key order."""
    first, second = lease("10.5.7.0/24", OURS), lease("10.5.8.0/24", OURS)
    assert pick(first, second) == Reuse(first)


@pytest.mark.parametrize(
    "subnet", ["10.3.7.0/24", "10.5.0.0/24", "10.5.7.0/25", "10.5.4.0/22"]
)
def test_our_lease_that_does_not_fit_is_deleted_and_still_blocks(subnet: str) -> None:
    """E14: outside the network, below SubnetMin, of another length."""
    own = lease(subnet, OURS)
    choice = pick(own)
    assert isinstance(choice, Create)
    assert choice.stale == own
    assert CONFIG.contains(choice.subnets.v4)
    assert not choice.subnets.v4.overlaps(own.subnet)


def test_a_reservation_that_does_not_fit_is_kept() -> None:
    choice = pick(lease("10.3.7.0/24", OURS, permanent=True))
    assert isinstance(choice, Create)
    assert choice.stale is None


def test_a_dual_stack_lease_does_not_fit() -> None:
    """H2, E14: v6 must be absent when EnableIPv6 is false."""
    own = lease("10.5.7.0/24", OURS, subnet6="fd00::/64")
    choice = pick(own)
    assert isinstance(choice, Create)
    assert choice.stale == own


@pytest.mark.parametrize(
    ("previous", "others", "blocked", "used"),
    [
        ("10.5.6.0/24", [], [], True),
        ("10.5.6.0/24", ["10.5.7.0/24"], [], True),
        ("10.5.6.0/24", ["10.5.6.0/24"], [], False),
        ("10.5.6.0/24", ["10.5.6.128/25"], [], False),
        ("10.5.6.0/24", ["10.5.4.0/22"], [], False),
        ("10.5.6.0/24", [], ["10.5.6.0/24"], False),
        ("10.4.1.0/24", [], [], False),  # T31
        ("10.5.0.0/24", [], [], False),
        ("10.5.6.0/25", [], [], False),
    ],
)
def test_previous(
    previous: str, others: list[str], blocked: list[str], used: bool
) -> None:
    """E15, and overlaps besides: two nodes must never share an address."""
    choice = pick(
        *(lease(subnet, THEIRS) for subnet in others),
        previous=previous,
        blocked=blocked,
    )
    assert isinstance(choice, Create)
    assert (choice.subnets.v4 == IPv4Network(previous)) is used


def test_the_draw_is_among_the_first_free_hundred_and_uniform() -> None:
    """E16: every one of them comes, and nothing else."""
    taken = [lease("10.5.1.0/24", THEIRS), lease("10.5.50.0/24", THEIRS)]
    free = [f"10.5.{n}.0/24" for n in range(1, 256) if n not in (1, 50)]
    drawn = set()
    for seed in range(2000):
        choice = pick(*taken, seed=seed)
        assert isinstance(choice, Create)
        drawn.add(str(choice.subnets.v4))
    assert drawn == set(free[:CANDIDATES])
    assert CANDIDATES == 100


def test_a_big_network_is_searched_quickly() -> None:
    """A /8 of /30 has four million subnets; leases in front of the free ones count,
    not the network's size."""
    config = NetworkConfig.parse('{"Network": "10.0.0.0/8", "SubnetLen": 30}')
    wide = pick(lease("10.0.0.0/10", THEIRS), config=config)
    assert isinstance(wide, Create)
    assert wide.subnets.v4.subnet_of(IPv4Network("10.64.0.0/10"))


def test_a_full_network_says_what_is_full() -> None:
    """E16."""
    with pytest.raises(NoFreeSubnet, match=r"every /24 of 10\.5\.0\.0/16"):
        pick(lease("10.5.0.0/16", THEIRS))


# Against the obvious.

SMALL = "10.5.0.0/24"
small_subnets = st.tuples(st.integers(0, 2**9 - 1), st.integers(22, 31)).map(
    lambda it: IPv4Network((int(IPv4Address("10.5.0.0")) + it[0], it[1]), strict=False)
)
small_configs = st.tuples(
    st.integers(26, 30), st.integers(0, 63), st.integers(0, 63)
).map(lambda it: _small_config(*it))


def _small_config(length: int, low: int, high: int) -> NetworkConfig:
    size = 1 << (32 - length)
    count = 256 // size
    bounds = sorted([low % count, high % count])
    return NetworkConfig.parse(
        json.dumps(
            {
                "Network": SMALL,
                "SubnetLen": length,
                "SubnetMin": f"10.5.0.{bounds[0] * size}",
                "SubnetMax": f"10.5.0.{bounds[1] * size}",
            }
        )
    )


small_leases = st.lists(
    st.builds(
        Lease,
        small_subnets,
        st.sampled_from([OURS, THEIRS, THEIRS, THEIRS]).map(LeaseAttrs),
        st.sampled_from([None, None, IPv6Network("fd00::/64")]),
        st.booleans(),
    ),
    max_size=20,
)


@given(
    small_leases,
    small_configs,
    st.none() | small_subnets.map(Subnets),
    st.lists(small_subnets.map(Subnets), max_size=3),
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
    if expected is None:
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
) -> list[Reuse | Create] | None:
    """All that may be chosen; None if nothing is free."""
    stale = None
    own = [lease for lease in leases if lease.attrs.public_ip == OURS]
    if own:
        fits = own[0].subnet in allowed(config) and own[0].subnet6 is None
        if fits:
            return [Reuse(own[0])]
        stale = None if own[0].permanent else own[0]
    taken = [lease.subnet for lease in leases] + [subnets.v4 for subnets in blocked]
    free = [
        Subnets(subnet)
        for subnet in allowed(config)
        if not any(subnet.overlaps(other) for other in taken)
    ]
    if previous in free:
        return [Create(previous, stale)]
    return [Create(subnets, stale) for subnets in free] or None


def allowed(config: NetworkConfig) -> list[IPv4Network]:
    return [
        subnet
        for subnet in config.network.subnets(new_prefix=config.subnet_len)
        if config.subnet_min <= subnet.network_address <= config.subnet_max
    ]
