"""VXLAN datagrams for tests, made without the code under test; any ones."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from flannelette.native.api import Vxlan
from tests.helpers.among import among

HEADER = 22
"""Bytes before the packet."""

VNI = 1
OWN_MAC = 0x02_00_00_00_00_01
PEER_MAC = 0x02_00_00_00_00_02
THIRD_MAC = 0x02_00_00_00_00_03
BROADCAST = 0xFF_FF_FF_FF_FF_FF
OWN = Vxlan(VNI, OWN_MAC)

IPV4, IPV6, ARP, VLAN, QINQ, BRIDGING = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8, 0x6558


def vxlan(
    packet: bytes,
    flags: int = 0x08,
    reserved: int = 0,
    vni: int = VNI,
    last: int = 0,
    destination: int = OWN_MAC,
    source: int = PEER_MAC,
    ethertype: int | None = None,
) -> bytes:
    """A datagram to us, sound but for what is given. `reserved` are the 24 bits behind
    the flags, `last` the 8 behind the VNI."""
    if ethertype is None:
        ethertype = IPV6 if packet[:1] and packet[0] >> 4 == 6 else IPV4
    return (
        struct.pack("!II", flags << 24 | reserved, vni << 8 | last)
        + destination.to_bytes(6, "big")
        + source.to_bytes(6, "big")
        + struct.pack("!H", ethertype)
        + packet
    )


@st.composite
def vxlans(draw: st.DrawFn, packets: st.SearchStrategy[bytes]) -> bytes:
    """Datagrams around packets: nearly sound, so each field may lie; some truncated."""
    packet = draw(packets)
    right = IPV6 if packet[:1] and packet[0] >> 4 == 6 else IPV4
    lie = draw(among(*[None] * 8, *range(9)))
    made = vxlan(
        packet,
        draw(st.integers(0, 255)) if lie == 0 else 0x08,
        1 << draw(st.integers(0, 23)) if lie == 1 else 0,
        draw(st.integers(0, 2**24 - 1)) if lie == 2 else VNI,
        1 << draw(st.integers(0, 7)) if lie == 3 else 0,
        draw(among(BROADCAST, PEER_MAC, 0)) if lie == 4 else OWN_MAC,
        draw(among(BROADCAST, OWN_MAC, 0, 1 << 40, THIRD_MAC))
        if lie == 5
        else PEER_MAC,
        draw(among(IPV4, IPV6, ARP, VLAN, QINQ, BRIDGING, 0)) if lie == 6 else right,
    )
    if lie == 7:
        made = made[: draw(st.integers(0, len(made)))]
    if lie == 8:  # nested
        made = vxlan(made)
    return made
