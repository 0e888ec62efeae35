"""Blackhole routes: packets for a pod that is not there go nowhere, rather than back
to where they came from (--ip-blackhole-route).

Ours is the last route to be asked for its subnet: it has the largest metric. flanneld's
has none, and then whichever of it and the bridge's own route was there first counts:
either no pod of the node is reached any more, or the blackhole is never made.

They run in the thread of Worker; `ip` is its IPRoute, which has no types.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection
from typing import Any

from flannelette.tun.interfaces import RT_TABLE_MAIN
from flannelette.tun.netlink import Attempts, doing, dump
from flannelette.tun.repairs import Network, family_of
from flannelette.tun.routes import RTPROT_BOOT, RTPROT_PEER, is_of, key_of, prefix_of

METRIC = (1 << 32) - 1
"""The largest: whatever other route there is goes first."""
_RTN_BLACKHOLE = 6


def reconcile_blackholes(
    ip: Any, desired: Collection[Network], overlay: Collection[Network]
) -> list[str]:
    """Make a blackhole of each subnet, in place of one that flanneld has left, and
    remove those with our mark that are desired no more, of subnets of our overlay's
    networks; names each step.

    One that fails does not stop the others. Raises the first OSError at the end."""
    with doing("listing the blackholes"):
        there = [
            route
            for family in (socket.AF_INET, socket.AF_INET6)
            for route in dump(
                ip.route, family=family, table=RT_TABLE_MAIN, type=_RTN_BLACKHOLE
            )
            # A kernel without IPv6 answers with what else it has.
            if route["family"] == family and route["type"] == _RTN_BLACKHOLE
        ]
    ours = {prefix_of(route): route for route in there if _is_ours(route)}
    attempts = Attempts()
    steps = []
    for network in desired:
        if network not in ours:
            with attempts.passing_over(f"adding the blackhole {network}"):
                ip.route("add", **_message(network, METRIC, RTPROT_PEER))
                steps.append(f"blackhole {network} added")
    flannelds = [it for it in there if _is_flannelds(it) and key_of(it) in desired]
    stale = [
        route
        for network, route in ours.items()
        if network not in desired and is_of(network, overlay)
    ]
    for route in (*flannelds, *stale):
        network, metric = prefix_of(route), route.get("priority") or 0
        with attempts.passing_over(f"removing the blackhole {network}", errno.ESRCH):
            ip.route("del", **_message(network, metric, route["proto"]))
            steps.append(f"blackhole {network} metric {metric} removed")
    attempts.end()
    return steps


def _is_ours(route: Any) -> bool:
    return bool(route["proto"] == RTPROT_PEER and route.get("priority") == METRIC)


def _is_flannelds(route: Any) -> bool:
    """Without a metric, and with the mark of those who set none."""
    return bool(route["proto"] == RTPROT_BOOT and key_of(route) is not None)


def _message(network: Network, metric: int, proto: int) -> dict[str, Any]:
    return {
        "family": family_of(network),
        "table": RT_TABLE_MAIN,
        "dst": str(network),
        "type": "blackhole",
        "priority": metric,
        "proto": proto,
    }
