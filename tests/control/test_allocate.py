"""Which subnet a node takes, in IPv4 alone."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from flannelette.control.allocate import CANDIDATES, Create, Reuse
from flannelette.control.errors import NoFreeSubnet
from flannelette.control.netconfig import NetworkConfig
from tests.helpers.allocating import CONFIG, OURS, THEIRS, lease, pick


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
