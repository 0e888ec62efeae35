"""What a wire delivers of many flows at once, with one kind of trouble above all.

A trouble changes what a flow sends (`marks`: options, flags, ...) or what becomes of it
on its way (`ways`: loss, ...). Payloads say where in their flow they belong.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import strategies as st

from flannelette.encap import ip
from flannelette.native.api import Frame
from tests.helpers.among import among
from tests.helpers.packets import with_checksum
from tests.helpers.streams import (
    ACK,
    CWR,
    ECE,
    FIN,
    PSH,
    RST,
    SYN,
    UDP,
    URG,
    cut,
    l4_checksum,
    tcp_packet,
    udp_packet,
    without_identification,
)

Changes = dict[str, Any]
Mark = Callable[[st.DrawFn], Changes]
Way = Callable[[st.DrawFn, list[bytes]], list[bytes]]

ECT1, ECT0, CE = 1, 2, 3
MORE_FRAGMENTS = 0x2000
TIMESTAMP, SACK = 8, 5


def timestamps(now: int, echo: int) -> bytes:
    """Two no-operations and the option (RFC 7323 section 3.2)."""
    return b"\1\1" + struct.pack("!BBII", TIMESTAMP, 10, now, echo)


def sack(*edges: int) -> bytes:
    """Two no-operations and the blocks (RFC 2018 section 3)."""
    return b"\1\1" + struct.pack(f"!BB{len(edges)}I", SACK, 2 + 4 * len(edges), *edges)


def _one(name: str, *values: Any) -> Mark:
    return lambda draw: {name: draw(among(*values))}


MARKS: dict[str, Mark] = {
    "nothing": lambda draw: {},
    "options": _one("options", b"", b"\1" * 4, b"\1" * 40, b"\0" * 4),
    "timestamps": lambda draw: {
        "options": timestamps(draw(st.integers(7, 8)), draw(st.integers(3, 4)))
    },
    "sack": _one("options", sack(1, 2), sack(1, 3), sack(1, 2, 5, 6), b""),
    "ecn": _one("tos", 0, ECT0, ECT1, CE),
    "dscp": _one("tos", 0, 0x20, 0x22),
    "ece_cwr": _one(
        "flags", ACK, ACK | ECE, ACK | CWR, ACK | ECE | CWR, ACK | PSH | ECE
    ),
    "fragments": _one(
        "fragment",
        0,
        ip.DONT_FRAGMENT,
        MORE_FRAGMENTS,
        MORE_FRAGMENTS | 185,
        185,
        0x8000,
    ),
    "ip_options": _one("ip_options", b"", b"\1" * 4, b"\1" * 40),
    "urg_rst_fin_syn": _one(
        "flags", ACK, ACK | URG, ACK | RST, ACK | FIN, ACK | SYN, SYN, RST, 0, ACK | PSH
    ),
    "ttl": _one("ttl", 64, 63, 2, 1),
    "window_and_acknowledgement": lambda draw: {
        "window": draw(among(500, 501)),
        "acknowledged": draw(among(77, 78)),
    },
    "sizes": _one("size", 0, 1, 99, 100, 101, 1400),
    "identification": _one("step", 0, 1, 2, 0xFFFF),
}


def _lost(draw: st.DrawFn, packets: list[bytes]) -> list[bytes]:
    return [packet for packet in packets if not _seldom(draw)]


def _duplicated(draw: st.DrawFn, packets: list[bytes]) -> list[bytes]:
    return [same for packet in packets for same in [packet] * (1 + _seldom(draw))]


def _reordered(draw: st.DrawFn, packets: list[bytes]) -> list[bytes]:
    moved = list(packets)
    for at in range(len(moved) - 1):
        if _seldom(draw):
            late = moved.pop(at)
            moved.insert(at + draw(st.integers(1, 3)), late)
    return moved


def _corrupt(draw: st.DrawFn, packets: list[bytes]) -> list[bytes]:
    return [_flipped(draw, packet) if _seldom(draw) else packet for packet in packets]


def _flipped(draw: st.DrawFn, packet: bytes) -> bytes:
    """One bit turned, behind the IPv4 header: only TCP's or UDP's checksum tells."""
    data = bytearray(packet)
    data[draw(st.integers(20, len(packet) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


def _unchecked(draw: st.DrawFn, packets: list[bytes]) -> list[bytes]:
    """UDP whose sender took no checksum (RFC 768)."""
    return [
        packet[:26] + b"\0\0" + packet[28:]
        if packet[9] == UDP and packet[0] == 0x45 and _seldom(draw)
        else packet
        for packet in packets
    ]


def _padded(draw: st.DrawFn, packets: list[bytes]) -> list[bytes]:
    return [packet + b"\xee" * (4 * _seldom(draw)) for packet in packets]


WAYS: dict[str, Way] = {
    "loss": _lost,
    "duplication": _duplicated,
    "reordering": _reordered,
    "corrupt_checksums": _corrupt,
    "udp_without_checksums": _unchecked,
    "padding": _padded,
}
TROUBLES = [*MARKS, *WAYS]


def _seldom(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 5)) == 5


@st.composite
def flow(draw: st.DrawFn, number: int, trouble: str) -> list[bytes]:
    """What one flow sends. Untroubled, all but its payload is constant."""
    mark = MARKS.get(trouble, MARKS["nothing"])
    usual = mark(draw)
    udp = draw(st.integers(0, 2)) == 2
    sequence = draw(among(0, 2**32 - 150))
    identification = draw(among(1, 65533))
    payload = bytes((number * 41 + at) % 251 for at in range(1400))
    fragment = draw(among(ip.DONT_FRAGMENT, 0))
    packets = []
    for _ in range(draw(st.integers(1, 8))):
        now: Changes = {
            "fragment": fragment,
            **(mark(draw) if _seldom(draw) else usual),
        }
        size, step = now.pop("size", 100), now.pop("step", 1)
        common: Changes = {
            "source_port": 4000 + number,
            "identification": identification & 0xFFFF,
        }
        if udp:
            kept = {k: v for k, v in now.items() if k in ("tos", "ttl", "fragment")}
            packets.append(udp_packet(payload[:size], **common, **kept))
        else:
            packets.append(tcp_packet(payload[:size], sequence, **common, **now))
        sequence += size
        identification += step
        payload = payload[size:] + payload[:size]
    return packets


@st.composite
def wires(draw: st.DrawFn, trouble: str) -> list[bytes]:
    """The datagrams' contents, in the order of arrival."""
    count = draw(st.integers(1, 6))
    flows = [draw(flow(number, trouble)) for number in range(count)]
    arrived = interleaved(draw, flows)
    return WAYS[trouble](draw, arrived) if trouble in WAYS else arrived


def interleaved(draw: st.DrawFn, flows: list[list[bytes]]) -> list[bytes]:
    """Each flow in order; it goes on for some packets before another has its turn."""
    left = [list(packets) for packets in flows if packets]
    arrived = []
    while left:
        packets = draw(st.sampled_from(left))
        for _ in range(draw(st.integers(1, 4))):
            if packets:
                arrived.append(packets.pop(0))
        left = [packets for packets in left if packets]
    return arrived


# ---- comparing -----------------------------------------------------------------------


def key(packet: bytes) -> bytes:
    """The flow of a packet: addresses, protocol, and the ports where it has them."""
    header = (packet[0] & 0xF) * 4
    later = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF
    ports = b"" if later else packet[header : header + 4]
    return packet[9:10] + packet[12:20] + ports


def check_same(frames: Iterable[Frame], expected: Iterable[bytes]) -> None:
    """The frames stand for the expected packets: those of each flow in their order. A
    frame that was not merged is the very packet."""
    wanted: dict[bytes, list[bytes]] = defaultdict(list)
    for packet in expected:
        wanted[key(packet)].append(packet)
    for frame in frames:
        for packet in cut(frame):
            assert wanted[key(packet)], "a packet too many, or changed beyond its flow"
            want = wanted[key(packet)].pop(0)
            if frame.vnet.gso_type:
                assert not ip.parse(packet).fragment & 0x3FFF, "the kernel cuts none"
                packet, want = (
                    without_identification(packet),
                    without_identification(want),
                )
            assert packet == want
    assert not any(wanted.values()), "a packet was lost"


def stamped(packet: bytes, header: int = 20) -> bytes:
    """The packet with right checksums, once a test has changed it."""
    return l4_checksum(with_checksum(packet), header)
