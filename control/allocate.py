"""Which subnet a node takes: pure, given all leases and a source of randomness.

The order is flanneld's (flannel-behaviour.md E13 to E16): our own lease by public IP,
else the subnet we had before, else a free one at random.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from flannelette.control.errors import NoFreeSubnet
from flannelette.control.lease import Lease
from flannelette.control.netconfig import NetworkConfig

CANDIDATES = 100
"""The draw is among the first so many free subnets (E16)."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """Our own lease is there and fits: write it again."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Create:
    """Create a lease on this subnet, if it is still absent."""

    subnet: IPv4Network
    stale: Lease | None = None
    """Our own lease that no longer fits the network: delete it first."""


def choose(
    leases: Sequence[Lease],
    public_ip: IPv4Address,
    config: NetworkConfig,
    previous: IPv4Network | None,
    rng: random.Random,
    blocked: Collection[IPv4Network] = (),
) -> Reuse | Create:
    """Decide what to take, given the leases in key order. Raises NoFreeSubnet.

    Blocked are the subnets of entries whose value is no lease: they may be somebody's
    (flanneld forgets them: E13). A dual-stack lease never fits, for its key would crash
    the peers of an IPv4 network (H2). A permanent lease that does not fit is an
    operator's reservation: not deleted.
    """
    own = next((lease for lease in leases if lease.attrs.public_ip == public_ip), None)
    if own is not None and own.subnet6 is None and config.contains(own.subnet):
        return Reuse(own)
    stale = own if own is not None and not own.permanent else None
    taken = [*(lease.subnet for lease in leases), *blocked]
    if (
        previous is not None
        and config.contains(previous)
        and not any(previous.overlaps(subnet) for subnet in taken)
    ):
        return Create(previous, stale)
    return Create(_draw(taken, config, rng), stale)


def _draw(
    taken: Sequence[IPv4Network], config: NetworkConfig, rng: random.Random
) -> IPv4Network:
    free: list[IPv4Network] = []
    for subnet in _free_subnets(taken, config):
        free.append(subnet)
        if len(free) == CANDIDATES:
            break
    if not free:
        raise NoFreeSubnet(
            f"out of subnets: every /{config.subnet_len} of {config.network} is leased"
        )
    return rng.choice(free)


def _free_subnets(
    taken: Sequence[IPv4Network], config: NetworkConfig
) -> Iterator[IPv4Network]:
    """Subnets from min to max that overlap none of taken, in order."""
    size = 1 << (32 - config.subnet_len)
    first, end = int(config.subnet_min), int(config.subnet_max) + size
    ranges = sorted(
        (int(it.network_address), int(it.broadcast_address)) for it in taken
    )
    for low, high in [*ranges, (end, end)]:
        while first + size <= min(low, end):
            yield IPv4Network((first, config.subnet_len))
            first += size
        first = max(first, (high // size + 1) * size)
