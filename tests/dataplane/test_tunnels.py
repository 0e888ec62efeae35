"""VXLAN, IPv6 on either side, sockets by flow: the twins do the same, and right."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.dataplane.path import Path, open_path
from flannelette.encap import ip, l4
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
from tests.helpers.among import among
from tests.helpers.ipv6 import ROUTE6, as6, cut6, packet6, packets6, partial6, routes6
from tests.helpers.packets import MTU, PEER, frames, packet, routes, with_checksum
from tests.helpers.streams import (
    cut,
    partial,
    streams,
    tcp_packet,
    udp_packet,
    without_identification,
)
from tests.helpers.tunnels import OVER4, OVER6, PEER6, dropped, from_peer, tunnels
from tests.helpers.twins import both, counts, sent
from tests.helpers.vxlans import HEADER, OWN, OWN_MAC, PEER_MAC, vxlan, vxlans

ALL = Offload.VNET | Offload.MERGE_TCP | Offload.MERGE_UDP

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
        assert counts(native) == counts(python)


@st.composite
def wholes(draw: st.DrawFn) -> bytes:
    """TCP and UDP packets whose checksum may be partial, of any size; some lie."""
    size = draw(among(0, 1, 8, 100, 1400, 3000))
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
        data * count if segment != 1 else data[:200],
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
        assert counts(native) == counts(python)


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
        assert counts(native) == counts(python)


def test_one_limit_is_used_up_by_either() -> None:
    with tunnels() as paths:
        for path in paths:
            assert len(path.wrap([packet6(destination="fd99::")] * 60, 0)[1]) == 50
            assert path.wrap([packet(destination="10.9.9.9")], 0)[1] == []
            assert path.counters(Direction.TX).answers_limited == 11


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
        {"flow_fds": (-1,) * 17},
        {"flow6_fds": (-1,) * 17},
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
