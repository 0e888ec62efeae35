"""encap.udp: flannel's udp backend, whose datagram is the packet."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from flannelette.encap import ip, udp
from flannelette.encap.drop import Drop, Dropped
from tests.helpers.packets import MTU, frames, packet


def test_the_datagram_is_the_packet_with_a_hop_less() -> None:
    data = packet(ttl=64)
    assert udp.wrap(data, ip.parse(data), MTU) == packet(ttl=63)
    assert udp.unwrap(packet(ttl=63), MTU) == packet(ttl=62)


@given(st.one_of(frames, st.binary(min_size=MTU + 1, max_size=MTU + 9)))
def test_unwrap_any_bytes(datagram: bytes) -> None:
    try:
        data = udp.unwrap(datagram, MTU)
    except Dropped:
        return
    assert ip.parse(data).total == len(data) <= len(datagram) <= MTU


def test_longer_than_the_mtu_is_dropped_not_cut_u13() -> None:
    fits = packet(payload=bytes(MTU - 20))
    assert len(udp.unwrap(fits, MTU)) == MTU
    for too_long in (packet(payload=bytes(MTU - 19)), fits + b"\0"):
        with pytest.raises(Dropped) as caught:
            udp.unwrap(too_long, MTU)
        assert caught.value.reason is Drop.OVERSIZE


def test_ttl_is_looked_at_before_the_size() -> None:
    data = packet(payload=bytes(MTU), ttl=1)
    with pytest.raises(Dropped) as caught:
        udp.wrap(data, ip.parse(data), MTU)
    assert caught.value.reason is Drop.TTL_EXPIRED


def test_constants_u1_u5() -> None:
    assert (udp.PORT, 1500 - udp.OVERHEAD) == (8285, 1472)
