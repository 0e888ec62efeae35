"""Offloads: which may be used, by the operator's word, and which are granted."""

from __future__ import annotations

import socket
from collections.abc import Collection, Sequence
from functools import reduce
from operator import or_

from flannelette.dataplane.underlay import accept_bursts, sends_bursts
from flannelette.native.api import NO_OFFLOAD, Offload
from flannelette.tun.device import TunDevice

OFFLOADS = ("tso", "uso", "gso", "gro")
"""tso, uso: superpackets of TCP, of UDP, through the TUN in both directions.
gso, gro: bursts through the socket, sent and received."""


def granted(
    offload: Collection[str], tun: TunDevice, rx: Sequence[socket.socket]
) -> Offload:
    """What the TUN, opened for what may be used, and a queue's sockets can do, of
    OFFLOADS that may be used."""
    found = {
        Offload.VNET: tun.vnet,
        Offload.MERGE_TCP: tun.tso,
        Offload.MERGE_UDP: tun.uso,
        Offload.GSO: "gso" in offload and all(map(sends_bursts, rx)),
        Offload.GRO: "gro" in offload and all(map(accept_bursts, rx)),
    }
    return reduce(or_, (bit for bit, is_on in found.items() if is_on), NO_OFFLOAD)
