"""What a kernel peer sends over a virtual link, unfinished and uncut: both twins."""

from __future__ import annotations

import pytest

from flannelette.encap.drop import Drop
from flannelette.native.api import Direction, PeerCheck
from tests.helpers.ipv6 import as6, cut6, partial6, stamped6, superpacket6
from tests.helpers.packets import MTU, packet, with_checksum
from tests.helpers.streams import (
    cut,
    l4_checksum,
    partial,
    superpacket,
    tcp_packet,
    udp_packet,
)
from tests.helpers.tunnels import dropped, from_peer, tunnels
from tests.helpers.vxlans import vxlan

BIG = tcp_packet(bytes(range(256)) * 20, destination="10.5.1.2")


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("data", [tcp_packet(b"abc"), udp_packet(b"abc")])
def test_a_partial_checksum_is_finished(data: bytes, six: bool) -> None:
    whole = as6(data) if six else data
    half = partial6(whole) if six else partial(whole, 20)
    corrupt = half[:-1] + b"?"  # nobody can know
    with tunnels() as paths:
        for path in paths:
            expected = stamped6(corrupt) if six else l4_checksum(corrupt, 20)
            got = path.unwrap([from_peer(vxlan(half)), from_peer(vxlan(corrupt))])
            assert got == [whole, expected]


def test_udp_backend_leaves_checksums_alone() -> None:
    half = partial(udp_packet(b"abc"), 20)
    with tunnels(vxlan=None) as paths:
        for path in paths:
            (got,) = path.unwrap([from_peer(half)])
            assert got[20:] == half[20:]


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("data", [BIG, udp_packet(bytes(5000))])
@pytest.mark.parametrize("segment", [100, 1000, 1400])
def test_a_superpacket_is_cut_as_the_kernel_would(
    data: bytes, segment: int, six: bool
) -> None:
    frame = superpacket6(as6(data), segment) if six else superpacket(data, segment)
    expected = cut6(frame) if six else cut(frame)
    with tunnels() as paths:
        for path in paths:
            assert path.unwrap([from_peer(vxlan(frame.data), segment)]) == expected
            assert dropped(path, Direction.RX) == {}


@pytest.mark.parametrize(("mtu", "longest"), [(MTU, 1280), (1280, 1280), (900, 900)])
def test_without_a_segment_size_tcp_is_cut_for_every_pod_and_udp_is_not_carried(
    mtu: int, longest: int
) -> None:
    """Linux tells it of UDP alone; of UDP nobody could guess it. A pod's MTU may be
    smaller than ours: in dual stack it is."""
    frame = superpacket(BIG, longest - 40)
    big = superpacket(udp_packet(bytes(5000)), 100)
    with tunnels(mtu=mtu) as paths:
        for path in paths:
            assert path.unwrap([from_peer(vxlan(frame.data))]) == cut(frame)
            assert path.unwrap([from_peer(vxlan(big.data))]) == []
            assert dropped(path, Direction.RX) == {Drop.OVERSIZE: 1}


def with_byte(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


HALF = partial(BIG, 20)
UDP_HALF = partial(udp_packet(bytes(5000)), 20)
SUPER_LIES = {
    "a corrupt checksum": (with_byte(HALF, 36, 1), 1000, Drop.BAD_CHECKSUM, 6),
    "a segment that is too long": (HALF, 1433, Drop.OVERSIZE, 4),
    "neither TCP nor UDP": (
        packet(payload=bytes(5000), protocol=47),
        1000,
        Drop.OVERSIZE,
        1,
    ),
    "a fragment": (
        with_checksum(with_byte(HALF, 6, 0x20)),
        1000,
        Drop.OVERSIZE,
        1,
    ),
    "a TCP header that is too short": (
        with_byte(HALF, 32, 0x40),
        1000,
        Drop.BAD_OFFLOAD,
        1,
    ),
    "another UDP length": (with_byte(UDP_HALF, 25, 1), 1000, Drop.BAD_OFFLOAD, 1),
    "too many datagrams": (UDP_HALF, 39, Drop.BAD_OFFLOAD, 129),
    "a bad header": (with_byte(HALF, 8, 1), 1000, Drop.BAD_CHECKSUM, 1),
}


@pytest.mark.parametrize("lie", SUPER_LIES)
def test_a_superpacket_that_lies(lie: str) -> None:
    """Packets that it stands for are all counted."""
    data, segment, reason, count = SUPER_LIES[lie]
    with tunnels() as paths:
        for path in paths:
            assert path.unwrap([from_peer(vxlan(data), segment)]) == []
            assert dropped(path, Direction.RX) == {reason: count}


def test_a_superpacket_of_a_stranger_is_one_datagram() -> None:
    with tunnels(peer_check=PeerCheck.PEER) as paths:
        for path in paths:
            burst = from_peer(vxlan(HALF), 1000)._replace(address=1)
            assert path.unwrap([burst]) == []
            assert dropped(path, Direction.RX) == {Drop.UNKNOWN_PEER: 1}
