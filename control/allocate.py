"""Which subnet a node takes: pure, given all leases and a source of randomness.

The order is flanneld's (flannel-behaviour.md E13 to E16): our own lease by public IP,
else the subnet we had before, else a free one at random. In dual stack a subnet of each
IP version is taken, and neither may overlap anybody's.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from itertools import islice
from typing import TypeVar

from flannelette.control.errors import NoFreeSubnet
from flannelette.control.lease import Lease, Subnets
from flannelette.control.netconfig import NetworkConfig

CANDIDATES = 100
"""The draw is among the first so many free subnets (E16)."""

_Network = TypeVar("_Network", IPv4Network, IPv6Network)


@dataclass(frozen=True, slots=True)
class Reuse:
    """Our own lease is there and fits: write it again."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Create:
    """Create a lease on these subnets, if it is still absent."""

    subnets: Subnets
    stale: Lease | None = None
    """Our own lease that no longer fits the network: delete it first."""


def choose(
    leases: Sequence[Lease],
    public_ip: IPv4Address,
    config: NetworkConfig,
    previous: Subnets | None,
    rng: random.Random,
    blocked: Collection[Subnets] = (),
) -> Reuse | Create:
    """Decide what to take, given the leases in key order. Raises NoFreeSubnet.

    Blocked are the subnets of entries whose value is no lease: they may be somebody's
    (flanneld forgets them: E13). A lease fits only if it is dual-stack as the network
    is, since a dual-stack key crashes the peers of an IPv4 network (H2). A permanent
    lease that does not fit is an operator's reservation: not deleted.
    """
    own = next((lease for lease in leases if lease.attrs.public_ip == public_ip), None)
    if own is not None and config.contains(*own.subnets):
        return Reuse(own)
    stale = own if own is not None and not own.permanent else None
    taken = [*(lease.subnets for lease in leases), *blocked]
    if previous is not None and config.network6 is None:
        previous = Subnets(previous.v4)  # what the network once had besides is no use
    if (
        previous is not None
        and config.contains(*previous)
        and not any(previous.overlaps(subnets) for subnets in taken)
    ):
        return Create(previous, stale)
    return Create(_draw_each(taken, config, rng), stale)


def conflict(
    lease: Lease, leases: Iterable[Lease], blocked: Iterable[Subnets]
) -> str | None:
    """Who keeps us from taking our lease again: has some of it under another key, or
    the key itself. None if nobody does."""
    for other in leases:
        if other.key == lease.key and other.attrs.public_ip == lease.attrs.public_ip:
            continue
        if other.subnets.overlaps(lease.subnets):
            return f"{lease.subnets} is held by {other.attrs.public_ip}"
    if any(subnets.overlaps(lease.subnets) for subnets in blocked):
        return f"{lease.subnets} is held by an entry that is no lease"
    return None


def _draw_each(
    taken: Sequence[Subnets], config: NetworkConfig, rng: random.Random
) -> Subnets:
    """A free subnet of each IP version that the network has, each on its own (E16)."""
    low, high, length = config.subnet_min, config.subnet_max, config.subnet_len
    v4 = _draw(
        [subnets.v4 for subnets in taken],
        IPv4Network((int(low), length)),
        IPv4Network((int(high), length)),
        config.network,
        rng,
    )
    low6, high6, length6 = config.subnet6_min, config.subnet6_max, config.subnet6_len
    if config.network6 is None or low6 is None or high6 is None:
        return Subnets(v4)
    v6 = _draw(
        [subnets.v6 for subnets in taken if subnets.v6 is not None],
        IPv6Network((int(low6), length6)),
        IPv6Network((int(high6), length6)),
        config.network6,
        rng,
    )
    return Subnets(v4, v6)


def _draw(
    taken: Iterable[_Network],
    first: _Network,
    last: _Network,
    network: _Network,
    rng: random.Random,
) -> _Network:
    free = list(islice(_free_subnets(taken, first, last), CANDIDATES))
    if not free:
        raise NoFreeSubnet(
            f"out of subnets: every /{first.prefixlen} of {network} is leased"
        )
    return rng.choice(free)


def _free_subnets(
    taken: Iterable[_Network], first: _Network, last: _Network
) -> Iterator[_Network]:
    """Subnets from first to last that overlap none of taken, in order."""
    length, size = first.prefixlen, first.num_addresses
    start, end = int(first.network_address), int(last.network_address) + size
    ranges: list[tuple[int, int]] = sorted(
        (int(it.network_address), int(it.broadcast_address)) for it in taken
    )
    for low, high in [*ranges, (end, end)]:
        while start + size <= min(low, end):
            yield type(first)((start, length))
            start += size
        start = max(start, (high // size + 1) * size)
