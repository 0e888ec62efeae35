"""Who does not know our probes drops them, and carries on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

from flannelette.encap import probe
from tests.helpers.lab import Lab
from tests.helpers.ns import needs_namespaces
from tests.interop.flanneld import beside_flanneld, needs_flanneld
from tests.interop.test_handmade import VXLAN_PORT, beside_kernel

pytestmark = needs_namespaces

NONCE = b"\xff\x45\x60\x08\0\0\0\1"
SIZES = [*range(probe.BYTES, 120), 500, 1000, 1471, 1472, 1473, 2000, 9000]
"""Bytes; those behind 1472 cross the wire as fragments."""


def datagrams() -> Iterator[bytes]:
    for size in SIZES:
        yield probe.request(NONCE, size)
        yield probe.reply(NONCE, size, known=True)


def check_ignored(it: Lab, port: int, device: str) -> None:
    """Probes to host 2's port leave nothing on its device, and no answer; what comes
    after them is carried."""
    with (
        it.capture_in(it.rig.host(2), device) as seen,
        it.socket_in(it.rig.host(1)) as sender,
    ):
        for datagram in datagrams():
            sender.sendto(datagram, (str(it.rig.address(2)), port))
        it.reach(1, 2, count=3)
        seen.setblocking(False)
        # The device itself looks for IPv6's routers, whenever it likes.
        packets = [packet for packet in received(seen) if packet[0] >> 4 != 6]
        pods = {socket.inet_aton(it.address(number)) for number in (1, 2)}
        assert len(packets) == 6, "three pings and their answers"
        assert all({p[12:16], p[16:20]} == pods for p in packets)
        sender.setblocking(False)
        assert list(received(sender)) == []
        it.reach(2, 1, count=3)


def received(sock: socket.socket) -> Iterator[bytes]:
    """What has come."""
    while True:
        try:
            yield sock.recv(65536)
        except BlockingIOError:
            return


@needs_flanneld
def test_flanneld_s_udp_proxy_drops_probes_u14(tmp_path: Path) -> None:
    with beside_flanneld(tmp_path) as (it, flanneld):
        check_ignored(it, 8285, "flannel0")
        flanneld.check()


def test_a_kernel_s_vxlan_device_drops_probes_w10(tmp_path: Path) -> None:
    with beside_kernel(tmp_path, dual=False) as (it, kernel):
        check_ignored(it, VXLAN_PORT, kernel.device)
