"""Which subnet a node takes: the rules, and an obvious twin."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import product
from typing import Any

import pytest
from hypothesis import given, strategies as st

from flannelette.control.allocate import CANDIDATES, Create, Reuse, choose, conflict
from flannelette.control.errors import NoFreeSubnet
from flannelette.control.lease import Lease, LeaseAttrs, Subnets
from flannelette.control.netconfig import NetworkConfig

CONFIG = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
DUAL = NetworkConfig.parse(
    '{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48"}'
)
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


def subnets(v4: str, v6: str | None = None) -> Subnets:
    return Subnets(IPv4Network(v4), None if v6 is None else IPv6Network(v6))


def pick(
    *leases: Lease,
    previous: str | Subnets | None = None,
    blocked: Sequence[str | Subnets] = (),
    config: NetworkConfig = CONFIG,
    seed: int = 1,
) -> Reuse | Create:
    return choose(
        leases,
        OURS,
        config,
        subnets(previous) if isinstance(previous, str) else previous,
        random.Random(seed),
        [subnets(it) if isinstance(it, str) else it for it in blocked],
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


# Dual stack.


def test_our_dual_lease_is_used_again() -> None:
    """E14: by PublicIP alone."""
    own = lease("10.5.7.0/24", OURS, subnet6="fd00:5:0:7::/64")
    assert pick(own, config=DUAL) == Reuse(own)


@pytest.mark.parametrize("subnet6", [None, "fd00:5::/64", "fd00:5:0:7::/80"])
def test_our_lease_that_does_not_fit_in_dual_stack(subnet6: str | None) -> None:
    """E14: v6 must be there, in range and of equal length."""
    own = lease("10.5.7.0/24", OURS, subnet6=subnet6)
    choice = pick(own, config=DUAL)
    assert isinstance(choice, Create)
    assert choice.stale == own
    assert DUAL.contains(*choice.subnets)
    assert not choice.subnets.overlaps(own.subnets)


HALF = subnets("10.5.6.0/24", "fd00:5:0:6::/64")


@pytest.mark.parametrize(
    ("previous", "blocked", "used"),
    [
        (HALF, [], True),
        (HALF, [subnets("10.5.7.0/24", "fd00:5:0:7::/64")], True),
        (HALF, [subnets("10.5.7.0/24", "fd00:5:0:6::/64")], False),
        (HALF, [subnets("10.5.7.0/24", "fd00:5::/56")], False),
        (HALF, [subnets("10.5.6.0/24", "fd00:5:0:7::/64")], False),
        (HALF, [subnets("10.5.6.0/24")], False),
        (subnets("10.5.6.0/24"), [], False),
        (subnets("10.5.6.0/24", "fd00:6:0:6::/64"), [], False),
    ],
)
@pytest.mark.parametrize("leased", [True, False])
def test_previous_in_dual_stack(
    previous: Subnets, blocked: list[Subnets], used: bool, leased: bool
) -> None:
    """E15: as a whole or not at all, be it a lease or an entry in the way."""
    leases = [Lease(it.v4, LeaseAttrs(THEIRS), it.v6) for it in blocked]
    choice = pick(
        *(leases if leased else []),
        blocked=[] if leased else blocked,
        previous=previous,
        config=DUAL,
    )
    assert isinstance(choice, Create)
    assert (choice.subnets == previous) is used
    assert DUAL.contains(*choice.subnets)


def test_previous_of_a_network_that_was_dual_stack() -> None:
    """E15, H2: the IPv4 subnet is as good as ever, the other must not be written."""
    assert pick(previous=HALF) == Create(subnets("10.5.6.0/24"))


def test_the_two_draws_know_nothing_of_each_other() -> None:
    """E16: either is among its own first free hundred, in all combinations."""
    drawn4, drawn6, pairs = set(), set(), set()
    for seed in range(2000):
        choice = pick(
            lease("10.5.1.0/24", THEIRS, subnet6="fd00:5:0:9::/64"),
            blocked=[subnets("10.5.9.0/24", "fd00:5:0:1::/64")],
            config=DUAL,
            seed=seed,
        )
        assert isinstance(choice, Create)
        drawn4.add(choice.subnets.v4)
        drawn6.add(choice.subnets.v6)
        pairs.add(choice.subnets)
    free = [n for n in range(1, 256) if n not in (1, 9)][:CANDIDATES]
    assert drawn4 == {IPv4Network(f"10.5.{n}.0/24") for n in free}
    assert drawn6 == {IPv6Network(f"fd00:5:0:{n:x}::/64") for n in free}
    assert len(pairs) > 1500


def test_a_network_full_in_ipv6_says_what_is_full() -> None:
    """E16."""
    with pytest.raises(NoFreeSubnet, match="every /64 of fd00:5::/48"):
        pick(lease("10.5.1.0/24", THEIRS, subnet6="fd00:5::/48"), config=DUAL)


def test_a_big_ipv6_network_is_searched_quickly() -> None:
    config = NetworkConfig.parse(
        '{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00::/8",'
        '"IPv6SubnetLen": 126}'
    )
    wide = pick(lease("10.5.1.0/24", THEIRS, subnet6="fd00::/9"), config=config)
    assert isinstance(wide, Create)
    assert wide.subnets.v6 is not None
    assert wide.subnets.v6.subnet_of(IPv6Network("fd80::/9"))


@pytest.mark.parametrize(
    ("others", "blocked", "reason"),
    [
        ([], [], None),
        ([lease("10.5.6.0/24", OURS, subnet6="fd00:5:0:6::/64")], [], None),
        ([lease("10.5.7.0/24", THEIRS, subnet6="fd00:5:0:7::/64")], [HALF.v4], "entry"),
        ([lease("10.5.6.0/24", THEIRS, subnet6="fd00:5:0:6::/64")], [], "192.0.2.2"),
        ([lease("10.5.6.0/24", THEIRS)], [], "192.0.2.2"),
        ([lease("10.5.7.0/24", THEIRS, subnet6="fd00:5:0:6::/80")], [], "192.0.2.2"),
        ([lease("10.5.6.0/24", OURS)], [], "192.0.2.1"),
    ],
)
def test_what_keeps_us_from_our_lease(
    others: list[Lease], blocked: list[IPv4Network], reason: str | None
) -> None:
    """H7: not our own key with our own public IP; everything else that overlaps."""
    own = Lease(HALF.v4, LeaseAttrs(OURS), HALF.v6)
    found = conflict(own, others, [Subnets(it) for it in blocked])
    assert (found is None) is (reason is None)
    assert reason is None or (found or "").startswith(f"{HALF} is held by ")
    assert reason is None or reason in (found or "")


# Against the obvious.

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
