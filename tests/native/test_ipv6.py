"""IPv6 in both paths, where it is switched on: equal to the twin, packet by packet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.dataplane.purepath import PurePath
from flannelette.dataplane.routes import RouteTable
from flannelette.encap import ip
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    GSO_TCPV4,
    GSO_TCPV6,
    NEEDS_CSUM,
    NO_OFFLOAD,
    Burst,
    Direction,
    Frame,
    Offload,
    Route,
    Vnet,
)
from flannelette.native.fastpath import FastPath
from tests.helpers.ipv6 import (
    ROUTE6,
    addresses6,
    as6,
    cut6,
    packet6,
    packets6,
    partial6,
    routes6,
    stamped6,
    superpacket6,
)
from tests.helpers.packets import MTU, ROUTE, frames, packet, routes
from tests.helpers.streams import (
    ACK,
    CWR,
    FIN,
    PSH,
    SYN,
    UDP,
    cut,
    payload_sizes,
    streams,
    tcp_packet,
    udp_packet,
    without_identification,
)
from tests.helpers.twins import both, counts, datagrams

ALL = Offload.VNET | Offload.MERGE_TCP | Offload.MERGE_UDP | Offload.GSO | Offload.GRO


@contextmanager
def carrying(offloads: Offload = NO_OFFLOAD) -> Iterator[tuple[FastPath, PurePath]]:
    """FastPath beside PurePath, both with IPv6."""
    with both(offloads=offloads, ipv6=True) as (native, python):
        assert isinstance(native, FastPath)
        assert isinstance(python, PurePath)
        for path in (native, python):
            path.set_routes([ROUTE, ROUTE6])
        yield native, python


def as_bursts(packets: list[bytes]) -> list[Burst]:
    return [Burst(data, max(len(data), 1), 1, 1) for data in packets]


# ---- packets -------------------------------------------------------------------------

any_packets = st.lists(st.one_of(frames, packets6(), st.just(packet6())), max_size=8)
changes = st.lists(
    st.tuples(st.booleans(), st.lists(st.one_of(routes, routes6), max_size=6)),
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(changes, any_packets)
def test_wrap(changes: list[tuple[bool, list[Route]]], packets: list[bytes]) -> None:
    with carrying() as (native, python):
        for added, some in changes:
            for path in (native, python):
                (path.set_routes if added else path.del_routes)(some)
        fast, fast_answers = native.wrap(packets, 0)
        pure, pure_answers = python.wrap(packets, 0)
        assert datagrams(fast) == datagrams(pure)
        assert fast_answers == pure_answers
        assert counts(native) == counts(python)


@settings(max_examples=200, deadline=None)
@given(any_packets)
def test_unwrap(packets: list[bytes]) -> None:
    with carrying() as (native, python):
        assert native.unwrap(as_bursts(packets)) == python.unwrap(as_bursts(packets))
        assert counts(native) == counts(python)


def test_a_packet_takes_a_hop_and_nothing_else() -> None:
    """Its padding is left behind; its extension headers are carried as they came."""
    data = as6(tcp_packet(b"abc", ip_options=b"\1" * 4))
    expected = data[:7] + bytes([data[7] - 1]) + data[8:]
    with carrying() as paths:
        for path in paths:
            bursts, _ = path.wrap([data + b"padding"], 0)
            assert [d for _, _, d in datagrams(bursts)] == [expected]
            assert path.unwrap(as_bursts([data + b"padding"])) == [expected]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (packet6()[:39], Drop.SHORT),
        (packet6()[:-1], Drop.BAD_LENGTH),
        (b"\x50" + packet6()[1:], Drop.BAD_VERSION),
        (packet6(hops=1), Drop.TTL_EXPIRED),
        (packet6(hops=0), Drop.TTL_EXPIRED),
        (packet6(destination="fd01::"), Drop.NO_ROUTE),
        (packet6(source="::a00:1", destination="::b00:1"), Drop.NO_ROUTE),
        (packet6(bytes(MTU - 39)), Drop.OVERSIZE),
    ],
)
def test_why_packets_are_dropped(data: bytes, reason: Drop) -> None:
    """Whom it may concern is told (tests/encap/test_icmp6.py knows what)."""
    with carrying() as paths:
        for path in paths:
            bursts, answers = path.wrap([data], 0)
            told = reason in (Drop.NO_ROUTE, Drop.OVERSIZE)
            assert (bursts, len(answers)) == ([], told)
            drops = path.counters(Direction.TX).drops
            assert drops[reason] == sum(drops) == 1


def test_without_being_asked_no_path_carries_ipv6() -> None:
    with both() as paths:
        for path in paths:
            path.set_routes([ROUTE6])
            assert path.wrap([packet6()], 0) == ([], [])
            assert path.unwrap(as_bursts([packet6()])) == []
            for direction in Direction:
                assert path.counters(direction).drops[Drop.BAD_VERSION] == 1


# ---- routes --------------------------------------------------------------------------


def found(path: FastPath, address: int) -> tuple[int, int] | None:
    data = packet6()
    bursts, _ = path.wrap([data[:24] + address.to_bytes(16, "big") + data[40:]], 0)
    return (bursts[0].address, bursts[0].port) if bursts else None


@settings(deadline=None)
@given(
    st.lists(routes6, max_size=40),
    st.lists(routes6, max_size=10),
    st.lists(addresses6, max_size=10),
)
def test_longest_prefix_wins(
    added: list[Route], deleted: list[Route], wanted: list[int]
) -> None:
    """Against the slowest router there is; RouteTable as well."""
    table = RouteTable()
    with both(ipv6=True) as (native, _):
        assert isinstance(native, FastPath)
        for target in (table.set, native.set_routes):
            target(added)
        for target in (table.delete, native.del_routes):
            target(deleted)
        left = {(r.prefix, r.length): r for r in added}
        for route in deleted:
            left.pop((route.prefix, route.length), None)
        for address in [*wanted, *(r.prefix for r in added)]:
            covers = [
                r
                for r in left.values()
                if r.prefix >> 128 - r.length == address >> 128 - r.length
            ]
            best = max(covers, key=lambda r: r.length, default=None)
            assert table.find(address, 6) == best
            assert found(native, address) == (
                (best.address, best.port) if best else None
            )


def test_many_subnets() -> None:
    """Prefixes that differ in few bits, at either end of the halves."""
    with both(ipv6=True) as (native, _):
        assert isinstance(native, FastPath)
        for length in (16, 48, 64, 80, 128):
            step = 1 << 128 - length
            native.set_routes(
                [Route(i * step, length, length, i + 1, 6) for i in range(5000)]
            )
            for i in (0, 1, 2, 77, 4999):
                assert found(native, i * step) == (length, i + 1)
            native.del_routes([Route(i * step, length, 0, 0, 6) for i in range(5000)])
            assert found(native, 77 * step) is None


@pytest.mark.parametrize(
    "wrong",
    [
        Route(1, 127, 1, 1, 6),
        Route(1 << 63, 64, 1, 1, 6),
        Route(1 << 64, 63, 1, 1, 6),
        Route(1, 0, 1, 1, 6),
        Route(0, 129, 1, 1, 6),
        Route(0, 0, 1, 0, 6),
        Route(0, 0, 1, 65536, 6),
    ],
)
def test_no_route(wrong: Route) -> None:
    with both(ipv6=True) as paths:
        for path in paths:
            with pytest.raises(OSError, match=r"Invalid argument|not a route"):
                path.set_routes([ROUTE6, wrong])
            assert path.wrap([packet6()], 0)[0] == []


def test_families_share_nothing() -> None:
    """0.0.0.0/0 is no route for IPv6, nor ::/0 one for IPv4."""
    with both(ipv6=True) as paths:
        for path in paths:
            path.set_routes([Route(0, 0, 4, 4), Route(0, 0, 6, 6, 6)])
            bursts, _ = path.wrap([packet(), packet6()], 0)
            assert [burst.port for burst in bursts] == [4, 6]
            path.del_routes([Route(0, 0, 0, 0)])
            bursts, _ = path.wrap([packet(), packet6()], 0)
            assert [burst.port for burst in bursts] == [6]


# ---- split ---------------------------------------------------------------------------

superpackets = st.builds(
    lambda udp, length, segment, flags, options, sequence: superpacket6(
        as6(
            udp_packet(b"x" * length)
            if udp
            else tcp_packet(
                bytes(range(256)) * (length // 256) + bytes(length % 256),
                sequence=sequence,
                flags=ACK | flags,
                options=bytes(options * 4),
            )
        ),
        segment,
    ),
    st.booleans(),
    payload_sizes,
    st.sampled_from([88, 100, 536, 1000, 1400]),
    st.sampled_from([0, PSH, FIN | PSH, CWR, CWR | FIN, SYN]),
    st.sampled_from([0, 3]),
    st.sampled_from([1000, 2**32 - 500]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(superpackets, max_size=3))
def test_split_gives_the_packets_that_a_frame_stands_for(frames: list[Frame]) -> None:
    with carrying(ALL) as (native, python):
        fast, answers = native.wrap_frames(frames, 0)
        singles = [data for frame in frames for data in cut6(frame)]
        assert datagrams(fast) == datagrams(python.wrap(singles, 0)[0])
        assert answers == []


def test_a_partial_checksum_is_finished() -> None:
    """Behind extension headers, too; and a UDP checksum is never 0."""
    tcp, udp = as6(tcp_packet(b"abc")), as6(udp_packet(bytes(10)))
    zero = udp[:-2] + udp[46:48]  # what the sum lacks
    zero = stamped6(zero)
    assert zero[46:48] == b"\xff\xff"
    with carrying(ALL) as (native, _):
        for whole in (tcp, udp, zero):
            offset = 6 if whole[6] == UDP else 16
            for extension in (b"", bytes([whole[6], 0, 1, 4, 0, 0, 0, 0])):
                start = 40 + len(extension)
                body = extension + partial6(whole)[40:]
                protocol = 0 if extension else whole[6]
                frame = Frame(
                    packet6(body, protocol), Vnet(NEEDS_CSUM, 0, 0, 0, start, offset)
                )
                bursts, _ = native.wrap_frames([frame], 0)
                assert bursts[0].data[start:] == whole[40:]


SOUND = Vnet(NEEDS_CSUM, GSO_TCPV6, 60, 100, 40, 16)


@pytest.mark.parametrize(
    ("data", "vnet"),
    [
        (as6(tcp_packet(bytes(300))), SOUND._replace(gso_type=GSO_TCPV4)),
        (as6(tcp_packet(bytes(300))), SOUND._replace(gso_type=5)),
        (as6(tcp_packet(bytes(300))), SOUND._replace(checksum_start=39)),
        (as6(tcp_packet(bytes(300), ip_options=b"\1" * 4)), SOUND),
        (as6(tcp_packet(bytes(300), fragment=0x2000)), SOUND),
        (tcp_packet(bytes(300)), SOUND),
    ],
)
def test_an_offload_header_that_does_not_fit(data: bytes, vnet: Vnet) -> None:
    with carrying(ALL) as (native, _):
        assert native.wrap_frames([Frame(data, vnet)], 0) == ([], [])
        assert native.counters(Direction.TX).drops[Drop.BAD_OFFLOAD] == 1


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        packets6(),
        streams().map(lambda packets: b"".join(map(as6, packets))),
        st.binary(max_size=120).map(lambda data: b"\x60" + data),
    ),
    st.tuples(*[st.integers(0, 255)] * 2, *[st.integers(0, 65535)] * 4),
    st.sampled_from([None, 0, GSO_TCPV6, 5]),
)
def test_any_bytes_behind_any_offload_header(
    data: bytes, fields: tuple[int], kind: int | None
) -> None:
    vnet = Vnet(*fields)
    if kind is not None:
        vnet = vnet._replace(gso_type=kind, checksum_start=40, checksum_offset=6)
    with carrying(ALL) as (native, _):
        bursts, _ = native.wrap_frames([Frame(data, vnet)], 0)
        for _, _, datagram in datagrams(bursts):
            assert len(datagram) <= MTU
            ip.parse(datagram, ipv6=True)


# ---- merge ---------------------------------------------------------------------------


def apart(frame: Frame) -> list[bytes]:
    """The packets that a frame of either version stands for."""
    if frame.data[0] >> 4 == 6:
        return cut6(frame)
    return [without_identification(data) for data in cut(frame)]


@settings(max_examples=400, deadline=None)
@given(streams(), st.sampled_from([0, 0, 1]))
def test_merge_changes_nothing_but_how_packets_are_written(
    packets: list[bytes], mixed: int
) -> None:
    packets = [p if mixed and i % 3 else as6(p) for i, p in enumerate(packets)]
    with carrying(ALL) as (native, python):
        merged = native.unwrap_frames(as_bursts(packets))
        expected = [apart(Frame(p))[0] for p in python.unwrap(as_bursts(packets))]
        assert [data for frame in merged for data in apart(frame)] == expected
        assert native.counters(Direction.RX).drops == (
            python.counters(Direction.RX).drops
        )


def run(count: int, size: int = 1000, **last: Any) -> list[bytes]:
    """A flow's packets in order, the last perhaps different."""
    made = [tcp_packet(bytes(size), sequence=i * size) for i in range(count)]
    if last:
        made[-1] = tcp_packet(bytes(size), **{"sequence": (count - 1) * size} | last)
    return [as6(data) for data in made]


def merged(packets: list[bytes]) -> list[int]:
    """How many packets each frame stands for."""
    with carrying(ALL) as (native, _):
        return [len(apart(f)) for f in native.unwrap_frames(as_bursts(packets))]


def test_a_run_is_one_frame() -> None:
    assert merged(run(40)) == [40]
    assert merged([as6(udp_packet(bytes(100)))] * 70) == [64, 6]
    with carrying(ALL) as (native, _):
        (frame,) = native.unwrap_frames(as_bursts(run(3)))
        assert frame.vnet == Vnet(NEEDS_CSUM, GSO_TCPV6, 60, 1000, 40, 16)


@pytest.mark.parametrize(
    "last",
    [
        {"flags": SYN | ACK},
        {"flags": FIN | ACK},
        {"flags": CWR | ACK},
        {"window": 501},
        {"tos": 1},
        {"ttl": 63},
        {"sequence": 2001},
        {"source_port": 4001},
        {"ip_options": b"\1" * 4},
        {"fragment": 0x2000},
    ],
)
def test_what_ends_a_run(last: dict[str, Any]) -> None:
    assert merged(run(3, **last)) == [2, 1]


@pytest.mark.parametrize("at", [3, 23, 39])
def test_flow_label_and_addresses_end_a_run(at: int) -> None:
    packets = run(3)
    data = bytearray(packets[2])
    data[at] ^= 1
    assert merged([*packets[:2], stamped6(bytes(data))]) == [2, 1]


def test_push_ends_a_run() -> None:
    pushed = run(3, flags=ACK | PSH)
    more = as6(tcp_packet(bytes(1000), sequence=3000))
    assert merged([*pushed, more]) == [3, 1]


def test_a_corrupt_packet_goes_alone_and_unchanged() -> None:
    packets = run(3)
    packets[1] = packets[1][:-1] + b"\1"
    with carrying(ALL) as (native, python):
        frames = native.unwrap_frames(as_bursts(packets))
        assert [frame.vnet.flags for frame in frames] == [0, 0, 0]
        assert [frame.data for frame in frames] == python.unwrap(as_bursts(packets))


def test_the_checksum_helper_is_sound() -> None:
    """The oracle's own check, against scapy."""
    from scapy.layers.inet6 import IPv6

    for data in (as6(tcp_packet(b"abc")), as6(udp_packet(b"abcd"))):
        dissected = IPv6(data)
        del dissected.payload.chksum
        assert data == bytes(dissected)
