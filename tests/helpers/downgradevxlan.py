"""Run by tests/native/test_downgrade.py under refuse.c: kernel peers' superpackets, one
that the TUN refuses before one that it never takes whole; print what came out."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from dataclasses import replace

from flannelette.dataplane.path import open_path
from flannelette.native.api import Direction, Offload
from tests.helpers.bench import bench, drain
from tests.helpers.streams import superpacket, tcp_packet, udp_packet
from tests.helpers.vxlans import OWN, vxlan

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
VNET = 10
OFFLOADS = Offload.VNET | Offload.MERGE_TCP | Offload.GRO
SEGMENT = 1000
TCP = superpacket(tcp_packet(bytes(range(256)) * 12), SEGMENT)
DATAGRAMS = superpacket(udp_packet(bytes(range(255, -1, -1)) * 12), SEGMENT)


def main() -> None:
    with bench() as it:
        it.underlay.setsockopt(SOL_UDP, UDP_GRO, 1)
        config = replace(it.config, offloads=OFFLOADS, vxlan=OWN)
        with closing(open_path("native", config)) as path:
            # Sent cut, they are received in one piece, and the size told.
            it.peer.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT)
            for frame in (TCP, DATAGRAMS):
                it.peer.sendto(vxlan(frame.data), it.underlay.getsockname())
            moved = path.pump(Direction.RX, 100)
            written = [data[VNET:].hex() for data in drain(it.kernel)]
            drops = sum(path.counters(Direction.RX).drops)
            print(json.dumps({"moved": moved, "written": written, "drops": drops}))


if __name__ == "__main__":
    main()
