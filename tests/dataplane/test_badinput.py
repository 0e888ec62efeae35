"""What the wire may bring, case by case: both twins drop it by its name."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from flannelette.dataplane.path import Path
from flannelette.encap.drop import Drop
from flannelette.native.api import Direction, PeerCheck, Route
from tests.helpers.ipv6 import as6, packet6
from tests.helpers.packets import MTU, PEER, packet, with_checksum
from tests.helpers.streams import udp_packet
from tests.helpers.tunnels import OVER4, dropped, from_peer, tunnels
from tests.helpers.vxlans import (
    ARP,
    BROADCAST,
    HEADER,
    IPV4,
    IPV6,
    OWN,
    OWN_MAC,
    PEER_MAC,
    QINQ,
    VLAN,
    vxlan,
)

# ---- headers that lie ----------------------------------------------------------------

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


# ---- the sender check ----------------------------------------------------------------


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


def test_strict_tells_the_underlays_apart() -> None:
    """Peers with the same number for an address, of either IP version."""
    data = packet6(source="fd00:0:0:7::1")
    six = Route(0xFD00 << 112 | 7 << 64, 64, int(PEER), 8472, 6, outer=6)
    with tunnels(peer_check=PeerCheck.STRICT) as paths:
        for path in paths:
            path.set_routes([six])
            burst = from_peer(vxlan(data))  # PEER's, over IPv4: known, but another
            assert path.unwrap([burst]) == []
            assert dropped(path, Direction.RX) == {Drop.WRONG_SOURCE: 1}
            assert path.unwrap([burst._replace(outer=6)]) == [data]
