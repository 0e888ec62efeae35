"""Run by tests/native/test_downgrade.py under refuse.c: move a stream both ways through
a native path with all offloads, and print what came out."""

from __future__ import annotations

import json

from flannelette.native.api import Direction, Offload
from tests.helpers.bench import bench, drain
from tests.helpers.streams import cut, superpacket, tcp_packet

VNET = 10
ALL = Offload.VNET | Offload.MERGE_TCP | Offload.MERGE_UDP | Offload.GSO | Offload.GRO


def main() -> None:
    with bench(offloads=ALL) as it:
        native = it.path
        frame = superpacket(tcp_packet(bytes(range(256)) * 100), 1000)
        header = bytes([1, 1]) + b"".join(
            value.to_bytes(2, "little") for value in frame.vnet[2:]
        )
        single = tcp_packet(b"before", source_port=4001)
        for data in (bytes(VNET) + single, header + frame.data):
            it.kernel.send(data)
        native.pump(Direction.TX, 100)
        sent = drain(it.peer)

        for packet in [single, *cut(frame)]:
            it.peer.sendto(packet, it.underlay.getsockname())
        native.pump(Direction.RX, 100)
        written = drain(it.kernel)
        print(
            json.dumps(
                {
                    "sent": [data.hex() for data in sent],
                    "written": [data[VNET:].hex() for data in written],
                    "offloads": native.offloads(),
                    "tx": native.counters(Direction.TX).packets,
                    "rx": native.counters(Direction.RX).packets,
                    "drops": [sum(native.counters(d).drops) for d in Direction],
                }
            )
        )


if __name__ == "__main__":
    main()
