"""A node that chooses its subnets beside another one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from flannelette.control.allocate import Create, Reuse, choose
from flannelette.control.lease import Lease, LeaseAttrs, Subnets
from flannelette.control.netconfig import NetworkConfig
from tests.helpers.storerig import subnets

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
