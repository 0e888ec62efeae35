"""encap.probe: any bytes are a probe or one exception; replies never answer replies."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from flannelette.encap import probe, vxlan
from flannelette.encap.drop import Drop, Dropped
from flannelette.encap.ip import parse as parse_ip
from tests.helpers.probes import answer
from tests.helpers.vxlans import OWN_MAC, VNI

nonces = st.binary(min_size=probe.NONCE, max_size=probe.NONCE)
lengths = st.integers(probe.BYTES, 2000)
requests = st.builds(probe.request, nonces, lengths)
NONCE = bytes(range(8))


def test_the_form_on_the_wire() -> None:
    """Written out: the C twin and other versions depend on it."""
    head = bytes(8) + b"flprobe1"
    asked = probe.request(NONCE, 30)
    assert asked == head + b"\x01\0\0\0" + NONCE + b"\0\0"
    assert probe.request(NONCE) == asked[:28]
    assert answer(asked, True) == head + b"\x02\x01\x00\x1e" + NONCE
    assert answer(asked, False) == head + b"\x02\x00\x00\x1e" + NONCE


@given(nonces, lengths, st.booleans())
def test_a_reply_says_what_came(nonce: bytes, length: int, known: bool) -> None:
    asked = probe.request(nonce, length)
    assert len(asked) == length
    assert probe.parse(asked) == (probe.Kind.REQUEST, False, 0, nonce)
    told = answer(asked, known)
    assert told is not None
    assert len(told) == probe.BYTES <= length  # nothing to gain by asking for others
    assert probe.parse(told) == (probe.Kind.REPLY, known, length, nonce)


@given(requests, st.booleans())
def test_a_reply_is_never_answered(asked: bytes, known: bool) -> None:
    told = answer(asked, known)
    assert told is not None
    assert answer(told, known) is None
    with pytest.raises(probe.NoProbe):
        probe.parse(told + b"\0")


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A request with one wrong byte before its flags. (Kind 2 makes a reply of it.)"""
    data = bytearray(draw(requests))
    data[draw(st.integers(0, 16))] ^= draw(st.integers(1, 255))
    return bytes(data)


cut = requests.map(lambda asked: asked[: probe.BYTES - 1])


@given(st.one_of(st.binary(max_size=64), cut, spoilt()), st.booleans())
def test_other_bytes_are_no_probe(data: bytes, known: bool) -> None:
    assert answer(data, known) is None


@given(requests)
def test_who_does_not_know_probes_drops_them_u14_w10(asked: bytes) -> None:
    """As a kernel's VXLAN device would, and the TUN behind flanneld's proxy."""
    with pytest.raises(Dropped) as caught:
        vxlan.unwrap(asked, VNI, OWN_MAC)
    assert caught.value.reason is Drop.BAD_FLAGS
    with pytest.raises(Dropped) as caught:
        parse_ip(asked)
    assert caught.value.reason is Drop.BAD_VERSION
