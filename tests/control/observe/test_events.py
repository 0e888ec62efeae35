"""Records of events: what is decoded, and that nothing else is."""

from __future__ import annotations

import struct
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given, strategies as st

from flannelette.control.errors import HostError
from flannelette.control.observe.events import BadEvents, Event, decode
from flannelette.dataplane.forwarder import Direction, Drop, EventKind
from tests.helpers.eventrecords import encode, event

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)


@st.composite
def events(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from(EventKind))
    version = draw(st.sampled_from([0, 4, 6]))
    data = draw(st.binary(max_size=40))
    bits = 128 if version == 6 else 32
    return event(
        kind,
        draw(U32),
        time=draw(U64),
        queue=3,
        direction=draw(st.sampled_from(Direction)),
        packets=draw(U32),
        into=draw(U32),
        drop=draw(st.sampled_from(Drop)) if kind == EventKind.DROPPED else None,
        version=version,
        address=draw(st.integers(0, (1 << bits) - 1)),
        port=draw(st.integers(0, 65535)),
        length=draw(st.integers(len(data), (1 << 32) - 1)),
        outer=draw(st.booleans()),
        data=data,
    )


@given(st.lists(events(), max_size=5))
def test_what_was_written_is_read(written: list[Event]) -> None:
    assert decode(encode(written), 3) == written


@given(st.binary(max_size=300))
def test_any_bytes_are_events_or_one_exception(junk: bytes) -> None:
    with suppress(BadEvents):
        decode(junk)


@given(
    st.lists(events(), min_size=1, max_size=3),
    st.integers(0, 1000),
    st.integers(0, 255),
)
def test_a_changed_byte_is_events_or_one_exception(
    written: list[Event], place: int, byte: int
) -> None:
    records = bytearray(encode(written))
    records[place % len(records)] = byte
    with suppress(BadEvents):
        for each in decode(bytes(records)):
            str(each.peer)


@given(st.lists(events(), min_size=1, max_size=3), st.integers(1, 55))
def test_half_a_record_is_none(written: list[Event], missing: int) -> None:
    with pytest.raises(BadEvents):
        decode(encode(written)[:-missing])


def changed(place: int, code: str, value: int) -> bytes:
    """A record of 60 bytes, padded to 64, with another value there."""
    record = bytearray(encode([event(EventKind.DROPPED, data=b"abcd")]))
    struct.pack_into(code, record, place, value)
    return bytes(record)


@pytest.mark.parametrize(
    "record",
    [
        changed(24, "=I", 60),
        changed(24, "=I", 72),
        changed(24, "=I", 0),
        changed(40, "=I", 3),
        changed(44, "=I", 200),
        changed(8, "=Q", 1)[:50] + b"\4" + changed(8, "=Q", 1)[51:],
        changed(50, "=B", 5),
        changed(51, "=B", len(EventKind)),
        changed(52, "=B", len(Drop)),
        changed(53, "=B", 2),
        changed(54, "=B", 2),
    ],
    ids=[
        "no padding",
        "beyond the end",
        "no size",
        "more bytes than the packet",
        "bytes beyond the end",
        "an address of IPv4 with more than 32 bits",
        "IP version 5",
        "an unknown kind",
        "an unknown drop",
        "a third direction",
        "outer is no bool",
    ],
)
def test_what_does_not_fit_is_refused(record: bytes) -> None:
    with pytest.raises(BadEvents):
        decode(record)


def test_the_exception_is_one_line_for_the_operator() -> None:
    assert issubclass(BadEvents, HostError)


def test_a_peer_has_an_address_of_its_version() -> None:
    for text in ("192.0.2.7", "2001:db8::7"):
        peer = ip_address(text)
        assert event(EventKind.ROUTED, peer=peer).peer == peer
    assert event(EventKind.READ).peer is None
