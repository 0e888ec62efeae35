"""Rigs of this process, and pods in them that reach each other."""

from __future__ import annotations

import os

from flannelette.benchmarks.rig import Pod, Rig

MINE = f"fl{os.getpid()}-"
"""How the names of their namespaces begin."""


def pods_by_kernel_routes(rig: Rig) -> list[Pod]:
    """Pods in 10.5.N.0/24, routed by the hosts' kernels in place of an overlay."""
    for here in rig.numbers:
        rig.ip(
            rig.host(here),
            *(
                f"route add 10.5.{there}.0/24 via {rig.address(there)}"
                for there in rig.numbers
                if there != here
            ),
        )
    return [rig.pod(number, f"10.5.{number}.0/24", 1472) for number in rig.numbers]
