"""VXLAN, IPv6 on either side, the sender check, sockets by flow: the twins do the same,
and what both do is right."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.dataplane.path import Path, open_path
from flannelette.encap import ip, l4
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    Burst,
    Direction,
    Frame,
    Offload,
    PathConfig,
    PeerCheck,
    Route,
)
from flannelette.native.fastpath import FastPath
from tests.helpers.ipv6 import (
    ROUTE6,
    as6,
    cut6,
    packet6,
    packets6,
    partial6,
    routes6,
    stamped6,
    superpacket6,
)
from tests.helpers.packets import (
    MTU,
    PEER,
    ROUTE,
    frames,
    packet,
    routes,
    with_checksum,
)
from tests.helpers.streams import (
    cut,
    l4_checksum,
    partial,
    streams,
    superpacket,
    tcp_packet,
    udp_packet,
    without_identification,
)
from tests.helpers.twins import both, sent
from tests.helpers.vxlans import (
    ARP,
    BROADCAST,
    IPV4,
    IPV6,
    OWN,
    OWN_MAC,
    PEER_MAC,
    QINQ,
    VLAN,
    vxlan,
    vxlans,
)

HEADER = 22
ALL = Offload.VNET | Offload.MERGE_TCP | Offload.MERGE_UDP
PEER6 = IPv6Address("2001:db8::2")
NETWORK6 = IPv6Network("fd00::/64")
OVER6 = Route.to(NETWORK6, PEER6, 8472, PEER_MAC)
OVER4 = ROUTE._replace(mac=PEER_MAC)


@contextmanager
def tunnels(**config: Any) -> Iterator[list[Path]]:
    """Both paths with VXLAN and IPv6, unless told otherwise, and a peer of each."""
    members: dict[str, Any] = {"vxlan": OWN, "ipv6": True} | config
    with both(**members) as paths:
        for path in paths:
            path.set_routes([OVER4, OVER6])
        yield paths


def from_peer(data: bytes, segment: int = 0, outer: int = 4) -> Burst:
    address = int(PEER) if outer == 4 else int(PEER6)
    return Burst(data, segment or max(len(data), 1), address, 8472, outer)


def dropped(path: Path, direction: Direction) -> dict[Drop, int]:
    drops = path.counters(direction).drops
    return {Drop(i): count for i, count in enumerate(drops) if count}


# ---- the twins -----------------------------------------------------------------------

configs = st.fixed_dictionaries(
    {
        "vxlan": st.sampled_from([None, OWN, OWN]),
        "mtu": st.one_of(st.just(MTU), st.integers(68, 1600)),
        "mtu6": st.one_of(st.sampled_from([0, MTU, MTU - 20]), st.integers(68, 1600)),
        "peer_check": st.sampled_from(PeerCheck),
        "flows": st.integers(0, 8),
    }
)
some_routes = st.lists(st.one_of(routes, routes6), max_size=6)
changes = st.lists(st.tuples(st.booleans(), some_routes), max_size=4)
packets = st.one_of(frames, packets6(), st.just(packet()), st.just(packet6()))


def change(path: Path, some: list[tuple[bool, list[Route]]]) -> None:
    for added, which in some:
        (path.set_routes if added else path.del_routes)(which)


@settings(max_examples=300, deadline=None)
@given(configs, changes, st.lists(packets, max_size=8))
def test_wrap(
    config: dict[str, Any], some: list[tuple[bool, list[Route]]], batch: list[bytes]
) -> None:
    with both(**config) as (native, python):
        for path in (native, python):
            path.set_routes([OVER4, OVER6])
            change(path, some)
        fast, fast_answers = native.wrap(batch, 0)
        pure, pure_answers = python.wrap(batch, 0)
        assert sent(fast) == sent(pure)
        assert fast_answers == pure_answers
        assert native.counters(Direction.TX) == python.counters(Direction.TX)


@st.composite
def wholes(draw: st.DrawFn) -> bytes:
    """TCP and UDP packets whose checksum may be partial, of any size; some lie."""
    size = draw(st.sampled_from([0, 1, 8, 100, 1400, 3000]))
    data = (udp_packet if draw(st.booleans()) else tcp_packet)(b"x" * size)
    six = draw(st.booleans())
    data = as6(data) if six else data
    if draw(st.integers(0, 3)):
        data = partial6(data) if six else partial(data, 20)
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, min(len(data), 64) - 1))
        data = (
            data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
        )
        data = data if six else with_checksum(data)
    return data


senders = st.one_of(
    st.just((4, int(PEER))),
    st.just((6, int(PEER6))),
    st.tuples(st.just(4), st.integers(1, 3)),
    st.tuples(st.just(6), st.one_of(st.integers(1, 3), st.just(1 << 96))),
)
bursts = st.builds(
    lambda data, count, segment, sender: Burst(
        data * count,
        segment or max(len(data), 1),
        sender[1],
        8472,
        sender[0],
    ),
    st.one_of(vxlans(st.one_of(packets, wholes())), vxlans(wholes()), packets),
    st.sampled_from([1, 1, 1, 2, 5]),
    st.sampled_from([0, 0, 1, 50, 100, 1000, 1472, 65507]),
    senders,
)


@settings(max_examples=500, deadline=None)
@given(configs, changes, st.lists(bursts, max_size=8))
def test_unwrap(
    config: dict[str, Any], some: list[tuple[bool, list[Route]]], batch: list[Burst]
) -> None:
    with both(**config) as (native, python):
        for path in (native, python):
            path.set_routes([OVER4, OVER6])
            change(path, some)
        assert native.unwrap(batch) == python.unwrap(batch)
        assert native.counters(Direction.RX) == python.counters(Direction.RX)


def apart(frame: Frame) -> list[bytes]:
    """The packets that a frame of either version stands for."""
    if frame.data[0] >> 4 == 6:
        return cut6(frame)
    return [without_identification(data) for data in cut(frame)]


@settings(max_examples=300, deadline=None)
@given(st.lists(bursts, max_size=3), streams(), st.booleans())
def test_superpackets_and_merges_stand_for_what_the_twin_writes(
    others: list[Burst], stream: list[bytes], six: bool
) -> None:
    """With offloads the native path joins and passes on whole what Python writes one
    by one."""
    batch = [from_peer(vxlan(as6(data) if six else data)) for data in stream]
    batch[1:1] = others
    with tunnels(offloads=ALL) as (native, python):
        assert isinstance(native, FastPath)
        joined = native.unwrap_frames(batch)
        expected = [apart(Frame(data)) for data in python.unwrap(batch)]
        written = [data for frame in joined for data in apart(frame)]
        assert written == [data for one in expected for data in one]
        assert dropped(native, Direction.RX) == dropped(python, Direction.RX)


# ---- bad input, case by case ---------------------------------------------------------

SOUND = udp_packet(b"sound", destination="10.5.1.2")
LIES = {
    "another VNI": (vxlan(SOUND, vni=2), Drop.WRONG_VNI),
    "no I flag": (vxlan(SOUND, flags=0), Drop.BAD_FLAGS),
    "GBP": (vxlan(SOUND, flags=0x88, reserved=7), Drop.BAD_FLAGS),
    "reserved bits": (vxlan(SOUND, reserved=1), Drop.BAD_FLAGS),
    "reserved bits at the end": (vxlan(SOUND, last=1), Drop.BAD_FLAGS),
    "not our MAC": (vxlan(SOUND, destination=PEER_MAC), Drop.WRONG_MAC),
    "broadcast": (vxlan(SOUND, destination=BROADCAST), Drop.WRONG_MAC),
    "from our MAC": (vxlan(SOUND, source=OWN_MAC), Drop.WRONG_MAC),
    "from a group": (vxlan(SOUND, source=BROADCAST), Drop.WRONG_MAC),
    "from no MAC": (vxlan(SOUND, source=0), Drop.WRONG_MAC),
    "ARP": (vxlan(bytes(28), ethertype=ARP), Drop.BAD_ETHERTYPE),
    "a VLAN tag": (vxlan(b"\0\1\x08\0" + SOUND, ethertype=VLAN), Drop.BAD_ETHERTYPE),
    "two": (vxlan(bytes(4) + SOUND, ethertype=QINQ), Drop.BAD_ETHERTYPE),
    "IPv4 said to be IPv6": (vxlan(SOUND, ethertype=IPV6), Drop.BAD_ETHERTYPE),
    "IPv6 said to be IPv4": (vxlan(packet6(), ethertype=IPV4), Drop.BAD_ETHERTYPE),
    "no packet": (vxlan(b""), Drop.SHORT),
    "neither IPv4 nor IPv6": (vxlan(b"\x55" + SOUND[1:]), Drop.BAD_VERSION),
    "a length beyond the end": (vxlan(SOUND[:-1]), Drop.BAD_LENGTH),
    "a length below the header's": (
        vxlan(with_checksum(SOUND[:2] + b"\0\x13" + SOUND[4:])),
        Drop.BAD_LENGTH,
    ),
    "a header length beyond the end": (vxlan(b"\x4f" + SOUND[1:]), Drop.BAD_HEADER),
    "a bad header checksum": (vxlan(SOUND[:8] + b"\1" + SOUND[9:]), Drop.BAD_CHECKSUM),
    "IPv6: beyond the end": (vxlan(packet6()[:-1]), Drop.BAD_LENGTH),
    "IPv6: a short header": (vxlan(packet6()[:39]), Drop.SHORT),
    "a jumbogram": (
        vxlan(packet6(b"", 0) + bytes.fromhex("3b00c20400010040") + bytes(99)),
        Drop.BAD_LENGTH,
    ),
    "VXLAN at once in VXLAN": (vxlan(vxlan(SOUND)), Drop.BAD_VERSION),
    "too long": (vxlan(packet(payload=bytes(MTU - 19))), Drop.OVERSIZE),
    "padded too long": (vxlan(SOUND + bytes(MTU)), Drop.OVERSIZE),
    "IPv6: too long": (vxlan(packet6(bytes(MTU - 39))), Drop.OVERSIZE),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_dropped_by_name(lie: str) -> None:
    datagram, reason = LIES[lie]
    with tunnels() as paths:
        for path in paths:
            assert path.unwrap([from_peer(datagram)]) == []
            assert dropped(path, Direction.RX) == {reason: 1}


@pytest.mark.parametrize("data", [SOUND, as6(SOUND)], ids=["IPv4", "IPv6"])
def test_truncated_anywhere(data: bytes) -> None:
    whole = vxlan(data)
    with tunnels() as paths:
        for path in paths:
            for length in range(len(whole)):
                assert path.unwrap([from_peer(whole[:length])]) == []
            counted = dropped(path, Direction.RX)
            header = 20 if data is SOUND else 40
            assert counted == {
                Drop.SHORT: HEADER + header,
                Drop.BAD_LENGTH: len(data) - header,
            }
            assert path.unwrap([from_peer(whole)]) == [data]


def test_what_comes_through_untouched() -> None:
    """Extension headers, nested VXLAN as a pod sends it, TTL 1 and 0 (W7), no UDP
    checksum, a wrong one; padding is left behind."""
    nested = udp_packet(vxlan(SOUND), destination="10.5.1.2")
    chain = bytes([60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0]) + bytes(
        [59, 0, 0, 1, 0, 0, 0, 7]
    )
    no_checksum = SOUND[:26] + b"\0\0" + SOUND[28:]
    wrong = SOUND[:-1] + b"?"
    through = [
        nested,
        packet6(chain, 0),
        packet6(chain[8:], 60),
        packet(ttl=1),
        packet(ttl=0),
        packet6(hops=0),
        no_checksum,
        wrong,
        packet(protocol=47),
        packet(fragment=0x2000, payload=bytes(64)),
        packet(payload=bytes(MTU - 20)),
        packet6(bytes(MTU - 40)),
    ]
    with tunnels() as paths:
        for path in paths:
            for data in through:
                room = MTU - len(data)
                burst = from_peer(vxlan(data + b"padding"[:room]))
                assert path.unwrap([burst]) == [data]
            assert dropped(path, Direction.RX) == {}


def test_without_mtu6_no_ipv6_is_carried() -> None:
    with tunnels(ipv6=False) as paths:
        for path in paths:
            assert path.unwrap([from_peer(vxlan(packet6()))]) == []
            assert dropped(path, Direction.RX) == {Drop.BAD_VERSION: 1}
            assert path.wrap([packet6()], 0) == ([], [])
            assert dropped(path, Direction.TX) == {Drop.BAD_VERSION: 1}


@pytest.mark.parametrize("over", [None, OWN])
def test_each_version_has_its_mtu(over: Any) -> None:
    """The larger one is no licence for the other."""
    for mtu, mtu6 in ((1000, 1200), (1200, 1000)):
        for data, passes in (
            (packet(destination="10.5.2.2", payload=bytes(mtu - 20)), True),
            (packet(destination="10.5.2.2", payload=bytes(mtu - 19)), False),
            (packet6(bytes(mtu6 - 40)), True),
            (packet6(bytes(mtu6 - 39)), False),
        ):
            with tunnels(mtu=mtu, mtu6=mtu6, vxlan=over) as paths:
                for path in paths:
                    expected = {} if passes else {Drop.OVERSIZE: 1}
                    datagram = vxlan(data) if over else data
                    assert len(path.unwrap([from_peer(datagram)])) == passes
                    assert dropped(path, Direction.RX) == expected
                    assert len(path.wrap([data], 0)[0]) == passes
                    assert dropped(path, Direction.TX) == expected


# ---- tx ------------------------------------------------------------------------------


def test_what_is_sent_w4_w5_w7() -> None:
    """To either underlay; no hop is taken, not even the last; no padding."""
    for data, route in ((packet(ttl=1), OVER4), (packet6(hops=1), OVER6)):
        with tunnels() as paths:
            for path in paths:
                (burst,), answers = path.wrap([data + b"padding"], 0)
                datagram = vxlan(data, destination=PEER_MAC, source=OWN_MAC)
                size = len(datagram)
                assert burst == Burst(datagram, size, *route[2:4], route.outer, 0)
                assert answers == []


def test_ipv6_goes_over_ipv4_too() -> None:
    """As our udp backend does between nodes that announce it."""
    with tunnels(vxlan=None) as paths:
        for path in paths:
            path.set_routes([ROUTE6])
            (burst,), _ = path.wrap([packet6(hops=9)], 0)
            assert burst.data == packet6(hops=8)
            assert (burst.address, burst.outer) == (int(PEER), 4)


@settings(deadline=None)
@given(st.integers(0, 16), st.lists(packets, max_size=8))
def test_a_flow_has_its_socket(flows: int, batch: list[bytes]) -> None:
    """Of as many as its underlay's version has: here IPv6 has one less."""
    with tunnels(flows=flows) as paths:
        for path in paths:
            for data in batch:
                for burst in path.wrap([data], 0)[0]:
                    count = flows - (burst.outer == 6)
                    inner = burst.data[HEADER:]
                    header = ip.parse(inner, ipv6=True)
                    assert burst.flow == l4.flow(inner, header, max(count, 1))


# ---- errors for the source -----------------------------------------------------------


def test_no_route_is_answered_and_echo_is_told_too() -> None:
    lost = [
        packet6(destination="fd99::1"),
        packet6(b"\x80\0\0\0\0\0\0\0", 58, destination="fd99::1"),
    ]
    with tunnels() as paths:
        for path in paths:
            bursts, answers = path.wrap(lost, 0)
            assert bursts == []
            assert [(data[40], data[48:]) for data in answers] == [
                (1, data) for data in lost
            ]
            assert path.counters(Direction.TX).answers == 2


def test_packet_too_big_tells_mtu6() -> None:
    with tunnels(mtu6=1300) as paths:
        for path in paths:
            _, (answer,) = path.wrap([packet6(bytes(1261))], 0)
            assert (answer[40], struct.unpack_from("!I", answer, 44)) == (2, (1300,))
            assert len(answer) == 1280


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5 * 10**6), st.integers(1, 80)), max_size=6))
def test_both_versions_share_one_limit(turns: list[tuple[int, int]]) -> None:
    with tunnels() as (native, python):
        now = 0
        for gap, count in turns:
            now += gap
            batch = [packet(destination="10.9.9.9"), packet6(destination="fd99::")]
            assert native.wrap(batch * count, now) == python.wrap(batch * count, now)
        assert native.counters(Direction.TX) == python.counters(Direction.TX)


def test_one_limit_is_used_up_by_either() -> None:
    with tunnels() as paths:
        for path in paths:
            assert len(path.wrap([packet6(destination="fd99::")] * 60, 0)[1]) == 50
            assert path.wrap([packet(destination="10.9.9.9")], 0)[1] == []
            assert path.counters(Direction.TX).answers_limited == 11


# ---- the sender check ----------------------------------------------------------------

STRANGER = from_peer(b"")._replace(address=int(PEER) + 1)


@pytest.mark.parametrize("over", [None, OWN])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("check", PeerCheck)
def test_strangers(check: PeerCheck, outer: int, over: Any) -> None:
    """Once for each datagram, whatever is in it. An address is of one IP version."""
    good = packet(source="10.5.2.2") if outer == 4 else packet6(source="fd00::5")
    datagram = vxlan(good) if over else good
    with tunnels(vxlan=over, peer_check=check) as paths:
        for path in paths:
            known = from_peer(datagram, outer=outer)
            assert len(path.unwrap([known])) == 1
            for strange in (
                known._replace(address=known.address + 1),
                known._replace(outer=10 - outer, address=known.address & 0xFFFFFFFF),
            ):
                got = path.unwrap([strange])
                assert len(got) == (check is PeerCheck.OFF)
            junk = b"junk" * 3
            path.unwrap([known._replace(data=junk, segment=4, address=99)])
            counted = dropped(path, Direction.RX)
            unknown = 0 if check is PeerCheck.OFF else 2 + 3
            assert counted.get(Drop.UNKNOWN_PEER, 0) == unknown


def test_a_peer_is_known_for_as_long_as_a_route_leads_there() -> None:
    second = OVER4._replace(prefix=int(IPv4Network("10.5.3.0/24").network_address))
    burst = from_peer(vxlan(packet()))
    with tunnels(peer_check=PeerCheck.PEER) as paths:
        for path in paths:

            def known(path: Path = path) -> bool:
                return path.unwrap([burst]) != []

            path.set_routes([second, second])
            path.del_routes([OVER4])
            assert known()
            path.set_routes([second._replace(mac=1)])
            assert known()
            path.set_routes([second._replace(address=1)])
            assert not known()
            path.set_routes([OVER4])
            assert known()
            path.del_routes([OVER4, OVER4])
            assert not known()


@pytest.mark.parametrize(
    ("data", "passes"),
    [
        (packet(source="10.5.2.9"), True),
        (packet(source="10.5.3.9"), False),  # another peer's
        (packet(source="10.5.1.9"), False),  # ours
        (packet(source="0.0.0.0"), False),
        (packet6(source="fd00::7"), False),  # whose peer is known by IPv6
        (packet6(source="fd99::7"), False),
    ],
)
@pytest.mark.parametrize("over", [None, OWN])
def test_strict(data: bytes, passes: bool, over: Any) -> None:
    third = Route.to(IPv4Network("10.5.3.0/24"), PEER + 1, 8472, 3)
    with tunnels(vxlan=over, peer_check=PeerCheck.STRICT) as paths:
        for path in paths:
            path.set_routes([third])
            burst = from_peer(vxlan(data) if over else data)
            assert len(path.unwrap([burst])) == passes
            expected = {} if passes else {Drop.WRONG_SOURCE: 1}
            assert dropped(path, Direction.RX) == expected


# ---- what a kernel peer over a virtual link sends (trap B) ---------------------------

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


def test_without_a_segment_size_tcp_is_cut_to_the_mtu_and_udp_is_not_carried() -> None:
    """A socket without UDP_GRO is not told it. Of UDP nobody could know it."""
    frame = superpacket(BIG, MTU - 40)
    big = superpacket(udp_packet(bytes(5000)), 100)
    with tunnels() as paths:
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
            burst = STRANGER._replace(data=vxlan(HALF), segment=1000)
            assert path.unwrap([burst]) == []
            assert dropped(path, Direction.RX) == {Drop.UNKNOWN_PEER: 1}


# ---- refused settings ----------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        OVER4._replace(mac=2**48),
        OVER4._replace(address=2**32),
        OVER4._replace(address=int(PEER6), outer=6),
        OVER4._replace(prefix=2**32),
        OVER6._replace(outer=4),
        OVER6._replace(outer=5),
        OVER6._replace(version=5),
        OVER6._replace(port=0),
    ],
)
def test_no_route(wrong: Route) -> None:
    with both(vxlan=OWN, ipv6=True) as paths:
        for path in paths:
            with pytest.raises(OSError, match=r"Invalid argument|not a route"):
                path.set_routes([OVER4, wrong])
            assert path.wrap([packet()], 0)[0] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"vxlan": OWN._replace(vni=2**24)},
        {"vxlan": OWN._replace(mac=2**48)},
        {"vxlan": OWN, "mtu": 65507 - HEADER + 1},
        {"vxlan": OWN, "mtu6": 65507 - HEADER + 1},
        {"mtu6": 65508},
    ],
)
def test_a_setting_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        config = replace(PathConfig(-1, sock.fileno(), -1, MTU, 0), **wrong)
        for datapath in ("native", "python"):
            with pytest.raises(OSError, match="Invalid argument"):
                open_path(datapath, config)
    with both(vxlan=OWN, mtu=65507 - HEADER, mtu6=65507 - HEADER):
        pass
