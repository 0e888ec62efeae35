"""encap.vxlan: scapy dissects what it makes; it takes what kernels take."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from flannelette.encap import vxlan
from flannelette.encap.drop import Drop, Dropped
from tests.helpers.ipv6 import packet6
from tests.helpers.packets import packet
from tests.helpers.vxlans import (
    ARP,
    BRIDGING,
    BROADCAST,
    IPV4,
    IPV6,
    OWN_MAC,
    PEER_MAC,
    QINQ,
    THIRD_MAC,
    VLAN,
    VNI,
    vxlan as sound,
    vxlans,
)


def test_constants_v2_v4_v8() -> None:
    """Taken from scapy's headers, too."""
    assert vxlan.PORT == 8472
    assert vxlan.HEADER == len(VXLAN() / Ether()) == 22
    assert len(IP() / UDP() / VXLAN() / Ether()) == vxlan.OVERHEAD
    assert len(IPv6() / UDP() / VXLAN() / Ether()) == vxlan.OVERHEAD6


macs = st.integers(0, 2**48 - 1)


@given(st.integers(0, 2**24 - 1), macs, macs, st.binary(max_size=20))
def test_every_field_is_right_w4_w5(
    vni: int, destination: int, source: int, payload: bytes
) -> None:
    for version, data in ((4, packet(payload=payload)), (6, packet6(payload))):
        made = vxlan.wrap(data, vni, destination, source, version)
        seen = VXLAN(made)
        assert (int(seen.flags), seen.vni) == (0x08, vni)
        # Reserved bits; scapy reads the first 24 as two fields or three.
        assert (made[1:4], made[7]) == (bytes(3), 0)
        ether = seen[Ether]
        assert int(ether.dst.replace(":", ""), 16) == destination
        assert int(ether.src.replace(":", ""), 16) == source
        assert ether.type == (0x86DD if version == 6 else 0x0800)
        assert bytes(ether.payload) == data
        assert isinstance(ether.payload, IPv6 if version == 6 else IP)


@given(st.integers(0, 2**24 - 1), st.binary(max_size=99))
def test_what_is_wrapped_can_be_unwrapped(vni: int, data: bytes) -> None:
    for version in (4, 6):
        made = vxlan.wrap(data, vni, OWN_MAC, PEER_MAC, version)
        assert vxlan.unwrap(made, vni, OWN_MAC) == (data, version)


def refused(datagram: bytes) -> Drop:
    with pytest.raises(Dropped) as caught:
        vxlan.unwrap(datagram, VNI, OWN_MAC)
    return caught.value.reason


PACKET = packet()
HEADERS_END = 22


@pytest.mark.parametrize("length", range(HEADERS_END))
def test_truncated_headers(length: int) -> None:
    assert refused(sound(PACKET)[:length]) is Drop.SHORT


@pytest.mark.parametrize("bit", range(32))
def test_flags_and_reserved_bits_h5_w10(bit: int) -> None:
    """The I flag must be there; each other of the 32 must not."""
    word = 0x08000000 ^ 1 << bit
    data = sound(PACKET, flags=word >> 24, reserved=word & 0xFFFFFF)
    assert refused(data) is Drop.BAD_FLAGS


@pytest.mark.parametrize("bit", range(8))
def test_reserved_bits_behind_the_vni(bit: int) -> None:
    assert refused(sound(PACKET, last=1 << bit)) is Drop.BAD_FLAGS


@pytest.mark.parametrize("vni", [0, 2, 1 << 8, 1 << 16, 1 << 23, 2**24 - 1])
def test_another_vni_w10(vni: int) -> None:
    assert refused(sound(PACKET, vni=vni)) is Drop.WRONG_VNI


@pytest.mark.parametrize("destination", [0, PEER_MAC, BROADCAST, 0x0100_5E00_0001])
def test_not_for_our_mac_h6(destination: int) -> None:
    assert refused(sound(PACKET, destination=destination)) is Drop.WRONG_MAC


@pytest.mark.parametrize("source", [0, OWN_MAC, BROADCAST, 0x0100_5E00_0001, 1 << 40])
def test_not_from_a_hosts_mac_or_from_ours_h6_w10(source: int) -> None:
    assert refused(sound(PACKET, source=source)) is Drop.WRONG_MAC


@pytest.mark.parametrize("source", [THIRD_MAC, 1, 0xFE_FF_FF_FF_FF_FF])
def test_from_any_other_mac(source: int) -> None:
    """Whose it is the sender check knows better."""
    assert vxlan.unwrap(sound(PACKET, source=source), VNI, OWN_MAC) == (PACKET, 4)


@pytest.mark.parametrize("ethertype", [ARP, VLAN, QINQ, BRIDGING, 0, 0x0801, 0xDD86])
def test_ethertypes_w9(ethertype: int) -> None:
    assert refused(sound(PACKET, ethertype=ethertype)) is Drop.BAD_ETHERTYPE


def test_the_first_reason_counts() -> None:
    """In the order of the bytes; each of these has all the faults that follow."""
    faults = {
        Drop.BAD_FLAGS: {"flags": 0},
        Drop.WRONG_VNI: {"vni": 7},
        Drop.WRONG_MAC: {"source": 0},
        Drop.BAD_ETHERTYPE: {"ethertype": ARP},
    }
    for first, reason in enumerate(faults):
        some = {
            k: v for fault in list(faults.values())[first:] for k, v in fault.items()
        }
        assert refused(sound(PACKET, **some)) is reason


@given(st.one_of(st.binary(max_size=40), vxlans(st.binary(max_size=40))))
def test_any_bytes(datagram: bytes) -> None:
    try:
        data, version = vxlan.unwrap(datagram, VNI, OWN_MAC)
    except Dropped:
        return
    # Only what we would send ourselves comes through; of the MACs, one is its own.
    source = int.from_bytes(datagram[14:20], "big")
    ethertype = IPV6 if version == 6 else IPV4
    assert datagram == sound(data, source=source, ethertype=ethertype)
