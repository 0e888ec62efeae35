"""Which two subnets a node takes in dual stack, and what keeps it from its own."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest

from flannelette.control.allocate import CANDIDATES, Create, Reuse, conflict
from flannelette.control.errors import NoFreeSubnet
from flannelette.control.lease import Lease, LeaseAttrs, Subnets
from flannelette.control.netconfig import NetworkConfig
from tests.helpers.allocating import DUAL, OURS, THEIRS, lease, pick
from tests.helpers.storerig import subnets


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
