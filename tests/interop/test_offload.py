"""Offloads stay inside a host: flanneld and nodes without them see single packets."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from flannelette.encap import ip
from tests.helpers.lab import DEADLINE, MTU, Lab, lab
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.tcp import check_stream, send_file
from tests.interop.flanneld import Flanneld, needs_flanneld

pytestmark = needs_namespaces

LARGEST = MTU - 28
"""Bytes of UDP payload that fill a packet of the overlay."""
EACH_WAY = [(1, 2), (2, 1)]
SEGMENTED = [100, 1000, LARGEST]
UDP_SEGMENT = 103
SOL_PACKET, PACKET_STATISTICS, PACKET_VNET_HDR = 263, 6, 15
SO_RCVBUFFORCE = 33
ETH_P_IP = 0x0800
UDP_8285 = struct.pack("!H", 8285)


def start_ours(it: Lab, number: int, *flags: str) -> None:
    it.cluster.start_daemon(number, *flags)
    until(lambda: it.is_ready(number))


def offloads(it: Lab, number: int) -> set[str]:
    return set(it.status(number)["node"]["offloads"])


def check_none_dropped(it: Lab, number: int) -> None:
    assert it.drops(number, "tx") == it.drops(number, "rx") == {}


@contextmanager
def pod_sockets(
    it: Lab, source: int, target: int
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A UDP socket in the source's pod, connected to the one in the target's."""
    receiver = it.socket_in(it.pods[target].ns)
    sender = it.socket_in(it.pods[source].ns)
    with receiver, sender:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
        receiver.bind(("", 5001))
        sender.connect((str(it.pods[target].address), 5001))
        yield sender, receiver


def check_tcp(it: Lab, source: int, target: int, size: int) -> None:
    data = random.Random(size).randbytes(size)
    got = send_file(it, source, target, data)
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def check_udp(it: Lab, source: int, target: int, *sizes: int) -> None:
    """A datagram of each size, one after the other."""
    with pod_sockets(it, source, target) as (sender, receiver):
        for size in sizes:
            data = random.Random(size).randbytes(size)
            sender.send(data)
            assert receiver.recv(65536) == data, size


def check_segmented_udp(it: Lab, source: int, target: int) -> None:
    """Datagrams that the pod sends by one call, the last shorter."""
    with pod_sockets(it, source, target) as (sender, receiver):
        for segment in SEGMENTED:
            data = random.Random(segment).randbytes(20 * segment + 7)
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
            sender.send(data)
            for start in range(0, len(data), segment):
                assert receiver.recv(65536) == data[start : start + segment]


def send_mixed_sizes(it: Lab, source: int, target: int) -> None:
    """Without a pause, so that neighbours in a batch differ; more than flanneld may
    keep up with, so only what leaves the source is waited for."""

    def sent() -> int:
        packets: int = it.status(source)["counters"]["tx"]["packets"]
        return packets

    sizes = random.Random(1).sample(range(LARGEST), 400)
    before = sent()
    with pod_sockets(it, source, target) as (sender, _):
        for size in sizes:
            sender.send(bytes(size))
        until(lambda: sent() >= before + len(sizes))


# ---- with flanneld -------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[Lab]:
    """Ours as it is by default on host 1, flanneld on host 2, common NICs between."""
    with lab(tmp_path, store="etcd") as it:
        it.rig.set_wire("nic")
        it.cluster.start_store(time.monotonic() + DEADLINE)
        start_ours(it, 1)
        flanneld = Flanneld(it.rig, 2, it.directory / "f2")
        until(flanneld.is_ready)
        until(lambda: it.status(1)["routes"])
        it.add_pods()
        assert flanneld.subnet is not None
        it.pods[2] = it.rig.pod(2, flanneld.subnet, MTU)
        it.until_reaches(1, 2)
        yield it


@needs_flanneld
def test_ping_and_a_gigabyte_each_way_with_flanneld(mixed: Lab) -> None:
    for source, target in EACH_WAY:
        assert "ttl=60" in mixed.reach(source, target, count=20)
        check_stream(mixed, source, target, random.Random(1).randbytes(10**8), 10)
    assert offloads(mixed, 1) >= {"vnet", "merge_tcp", "gso", "gro"}
    check_none_dropped(mixed, 1)


@needs_flanneld
def test_udp_of_every_size_with_flanneld(mixed: Lab) -> None:
    """All that one packet can hold, and some that cross as fragments."""
    for source, target in EACH_WAY:
        check_udp(mixed, source, target, *range(1, LARGEST + 2), 5000, 65507)
        check_segmented_udp(mixed, source, target)
    check_none_dropped(mixed, 1)


@contextmanager
def tap_on(it: Lab, number: int) -> Iterator[socket.socket]:
    """A packet socket for what is IPv4 on a host's eth0, behind virtio headers."""
    with it.rig.inside(it.rig.host(number)):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with tap:
        tap.setblocking(False)
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 28)
        tap.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        with it.rig.inside(it.rig.host(number)):
            tap.bind(("eth0", ETH_P_IP))
        yield tap


def bursts_from(tap: socket.socket, sender: str) -> Iterator[tuple[int, bytes]]:
    """What the tap has of the sender's datagrams to port 8285: payloads, each with the
    size at which it is still to be cut, or 0."""
    while True:
        try:
            seen = tap.recv(1 << 17)
        except BlockingIOError:
            break
        segment = struct.unpack_from("=BBHHHH", seen)[3]
        outer = seen[10 + 14 :]
        assert outer[0] == 0x45
        protocol, source, port = outer[9], outer[12:16], outer[22:24]
        if (protocol, source, port) == (17, socket.inet_aton(sender), UDP_8285):
            total, _, fragment = struct.unpack_from("!HHH", outer, 2)
            assert fragment & ~ip.DONT_FRAGMENT == 0
            yield segment, outer[28:total]
    _, lost = struct.unpack("=II", tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    assert lost == 0


@needs_flanneld
@pytest.mark.parametrize("wire", ["nic", "plain"])
def test_each_datagram_to_flanneld_is_one_packet(
    mixed: Lab, wire: Literal["nic", "plain"]
) -> None:
    """A NIC that cuts UDP itself is told to cut a burst between packets; on any other
    wire there are no bursts."""
    mixed.rig.set_wire(wire)
    with tap_on(mixed, 2) as tap:
        mixed.reach(1, 2, count=5)
        check_udp(mixed, 1, 2, 1, LARGEST, 5000)
        check_segmented_udp(mixed, 1, 2)
        check_tcp(mixed, 1, 2, 5_000_000)
        send_mixed_sizes(mixed, 1, 2)
        bursts = list(bursts_from(tap, str(mixed.rig.address(1))))
    packets = 0
    for segment, payload in bursts:
        for start in range(0, len(payload), segment or len(payload)):
            datagram = payload[start : start + (segment or len(payload))]
            assert len(datagram) <= MTU
            assert ip.parse(datagram).total == len(datagram)
            packets += 1
    assert packets > 5_000_000 // MTU
    assert any(segment for segment, _ in bursts) is (wire == "nic")


# ---- with our own --------------------------------------------------------------------


@pytest.mark.parametrize("second", ["auto", "none", "tso", "uso,gro"])
@pytest.mark.parametrize("first", ["auto", "none"])
def test_nodes_with_and_without_offloads(
    tmp_path: Path, first: str, second: str
) -> None:
    with lab(tmp_path) as it:
        it.rig.set_wire("nic")
        it.cluster.start_store(time.monotonic() + DEADLINE)
        start_ours(it, 1, f"--offload={first}")
        start_ours(it, 2, f"--offload={second}")
        it.cluster.wait_connected(time.monotonic() + DEADLINE)
        it.add_pods()
        for source, target in EACH_WAY:
            assert "ttl=60" in it.reach(source, target, count=5)
            check_udp(it, source, target, 1, LARGEST, LARGEST + 1, 5000)
            check_segmented_udp(it, source, target)
            check_tcp(it, source, target, 10_000_000)
        for number, wanted in ((1, first), (2, second)):
            assert bool(offloads(it, number)) is (wanted != "none")
            check_none_dropped(it, number)
