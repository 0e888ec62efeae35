"""Which queue the kernel gives a packet, by the program of ours; on a real TUN."""

from __future__ import annotations

import errno
import os
import platform
import select
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from flannelette.benchmarks import netns
from flannelette.tun import steering
from flannelette.tun.device import TunDevice, open_tun
from tests.helpers.ns import needs_namespaces
from tests.helpers.packets import frames, packet

pytestmark = needs_namespaces
QUEUES = 4
ETH_P_IP = 0x0800
DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000
TCP, UDP = 6, 17


class Tap:
    """A TUN that is up, and a packet socket: what it is given, the TUN sends."""

    def __init__(self, tun: TunDevice, sock: socket.socket) -> None:
        self.tun = tun
        self._socket = sock

    def queue_of(self, data: bytes) -> int:
        """The queue that the kernel puts this packet into."""
        self._socket.sendto(data, (self.tun.name, ETH_P_IP))
        ready, _, _ = select.select(self.tun.queues, [], [], 10)
        (fd,) = ready
        assert os.read(fd, 65536) == data
        return self.tun.queues.index(fd)


@pytest.fixture(scope="module")
def tap() -> Iterator[Tap]:
    name = f"flsteer{os.getpid()}"
    netns.ip([f"netns add {name}"])
    try:
        with netns.inside(name):
            tun = open_tun(queues=QUEUES)
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        with sock, closing(tun):
            if tun.unsteered is not None:
                pytest.skip(f"no program for us: {tun.unsteered}")
            # Silence: no address, and nothing that IPv6 sends of its own accord.
            netns.ip(
                [
                    f"link set {tun.name} addrgenmode none",
                    f"link set {tun.name} multicast off mtu 65535 up",
                ],
                name,
            )
            yield Tap(tun, sock)
    finally:
        netns.delete([name])


def expected(data: bytes) -> int:
    """What the program computes, without its language."""

    def load(format: str, offset: int) -> int:
        (value,) = struct.unpack_from(format, data, offset)
        return int(value)

    mix = 0x9E3779B1
    try:
        value = load("!I", 12) * mix & 0xFFFFFFFF
        value = (value ^ load("!I", 16)) * mix & 0xFFFFFFFF
        if data[9] == TCP and load("!H", 6) & 0x7FFF == DONT_FRAGMENT:
            value ^= load("!I", (data[0] & 0xF) * 4)
    except (struct.error, IndexError):
        return 0
    value = (value ^ value >> 16) * mix & 0xFFFFFFFF
    return (value >> 16) % QUEUES


def tcp(
    source: int, target: int, fragment: int = DONT_FRAGMENT, options: int = 0
) -> bytes:
    ports = struct.pack("!HH", source, target)
    return packet(
        payload=ports + bytes(16),
        protocol=TCP,
        fragment=fragment,
        options=bytes(options),
    )


tcp_packets = st.builds(
    tcp,
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.sampled_from([0, 0x4000, 0x4000, 0x2000, 0x6000, 0x4001, 0xC000]),
    st.sampled_from([0, 0, 4, 40]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500)
@given(data=st.one_of(frames, tcp_packets).filter(len))
def test_the_queue_is_what_the_program_says(tap: Tap, data: bytes) -> None:
    """So the program sees the IP header at offset 0, and the kernel takes its result
    modulo the number of queues. Whatever the packet, there is a queue for it."""
    assert tap.queue_of(data) == expected(data)


def test_connections_of_two_hosts_spread(tap: Tap) -> None:
    """Linux gives the clients of a host ports that are all even, or all odd."""
    load = Counter(tap.queue_of(tcp(port, 5201)) for port in range(32768, 36768, 2))
    assert set(load) == set(range(QUEUES))
    assert max(load.values()) < 1.2 * 2000 / QUEUES


def test_pairs_of_hosts_spread(tap: Tap) -> None:
    load = Counter(
        tap.queue_of(packet(source=f"10.5.1.{one}", destination=f"10.5.{two}.2"))
        for one in range(2, 42)
        for two in range(2, 42)
    )
    assert set(load) == set(range(QUEUES))
    assert max(load.values()) < 1.2 * 1600 / QUEUES


FRAGMENTS = [MORE_FRAGMENTS, MORE_FRAGMENTS | 1, 8, 185]


@pytest.mark.parametrize(
    ("protocol", "whole"),
    # Linux sets "don't fragment" on the small datagrams of a socket, not on the large.
    [(TCP, [0]), (UDP, [0, DONT_FRAGMENT])],
)
def test_the_fragments_of_a_flow_stay_with_it(
    tap: Tap, protocol: int, whole: list[int]
) -> None:
    """Whatever stands where its whole packets have the ports."""
    queues = {
        tap.queue_of(
            packet(payload=os.urandom(64), protocol=protocol, fragment=fragment)
        )
        for fragment in [*whole, *FRAGMENTS] * 10
    }
    assert len(queues) == 1


def test_a_flow_keeps_its_queue_whoever_writes_the_other_direction(tap: Tap) -> None:
    """Without the program a flow follows the queue of its other direction."""
    for port in range(40000, 40050):
        before = tap.queue_of(tcp(port, 80))
        back = packet(
            source="10.5.2.2",
            destination="10.5.1.2",
            payload=struct.pack("!HH", 80, port) + bytes(16),
            protocol=TCP,
            fragment=DONT_FRAGMENT,
        )
        for fd in tap.tun.queues:
            os.write(fd, back)
            assert tap.queue_of(tcp(port, 80)) == before


def test_a_machine_without_such_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    with pytest.raises(OSError, match="not implemented") as caught:
        steering.steer(-1)
    assert caught.value.errno == errno.ENOSYS


def test_a_refusal_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier's, of a program without an end; and that of what is no TUN."""
    before = set(os.listdir("/proc/self/fd"))
    with open(os.devnull) as null:
        with monkeypatch.context() as broken:
            broken.setattr(steering, "PROGRAM", steering.PROGRAM[:-8])
            with pytest.raises(OSError, match=r"Invalid argument|not permitted"):
                steering.steer(null.fileno())
        with pytest.raises(OSError, match=r"Inappropriate ioctl|not permitted"):
            steering.steer(null.fileno())
    assert set(os.listdir("/proc/self/fd")) == before
