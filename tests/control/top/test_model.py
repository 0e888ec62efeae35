"""What top shows, of any two status documents."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.control import statusdocument
from flannelette.control.statusdocument import StatusDocument
from flannelette.control.top.model import (
    SOCKET_FULL,
    TUN_FULL,
    Column,
    Direction,
    Loss,
    Peer,
    Queue,
    View,
    in_order,
    view,
)
from tests.helpers.statusdocuments import direction, document, peer


def parsed(
    uptime: float = 100.0, *peers: dict[str, Any], **more: Any
) -> StatusDocument:
    return statusdocument.parse(document(uptime, list(peers), **more))


# ---- rates ---------------------------------------------------------------------------


def test_a_rate_is_what_was_gained_by_the_daemons_own_clock() -> None:
    before = parsed(100.0, peer(1, 1000, 2000), tx=10_000, rx=20_000)
    now = parsed(102.5, peer(1, 1500, 2001), tx=15_000, rx=20_000)
    shown = view(before, now)
    tx, rx = shown.directions
    assert (tx.name, rx.name) == ("tx", "rx")
    assert (tx.packets_rate, tx.bits_rate) == (2000.0, 2000.0 * 1400 * 8)
    assert (rx.packets_rate, rx.bits_rate) == (0.0, 0.0)
    assert (tx.packets, tx.bytes) == (15_000, 15_000 * 1400)
    (row,) = shown.peers
    assert (row.tx_packets, row.rx_packets) == (200.0, 0.4)
    assert (row.tx_bits, row.rx_bits) == (200.0 * 11200, 0.4 * 11200)
    assert (row.tx_bytes, row.rx_bytes) == (1500 * 1400, 2001 * 1400)


def test_the_first_document_has_totals_and_no_rates() -> None:
    shown = view(None, parsed(100.0, peer(1, 5, 6), tx=5, rx=6))
    for one in shown.directions:
        assert one.packets > 0
        assert {one.bits_rate, one.packets_rate, one.pumps_rate} == {None}
        assert {one.burst, one.frame, one.call, one.drops_rate} == {None}
    (row,) = shown.peers
    assert {row.tx_bits, row.tx_packets, row.rx_bits, row.rx_packets} == {None}
    assert row.tx_bytes == 5 * 1400


def test_means_are_of_the_time_between_and_not_of_all_time() -> None:
    before, now = document(100.0), document(101.0)
    counters = now["counters"]["tx"]
    for name, gained in {
        "packets": 640,
        "messages": 16,
        "frames": 20,
        "tun_calls": 3,
        "wire_calls": 5,
        "pumps": 2,
    }.items():
        counters[name] += gained
    tx, rx = view(statusdocument.parse(before), statusdocument.parse(now)).directions
    assert (tx.burst, tx.frame, tx.call, tx.pumps_rate) == (40.0, 32.0, 80.0, 2.0)
    assert (rx.burst, rx.frame, rx.call, rx.pumps_rate) == (None, None, None, 0.0)


def test_another_daemon_is_not_compared() -> None:
    old, young = parsed(100.0, tx=10), parsed(0.5, tx=1_000_000)
    assert view(old, young).directions[0].packets_rate is None
    assert view(old, old).directions[0].packets_rate is None


def test_a_peer_that_left_and_came_back_begins_anew() -> None:
    before = parsed(100.0, peer(1, 5000, 5000))
    now = parsed(110.0, peer(1, 30, 5000), peer(2, 70, 0))
    came_back, is_new = view(before, now).peers
    assert (came_back.tx_packets, came_back.rx_packets) == (3.0, 0.0)
    assert (is_new.tx_packets, is_new.rx_packets) == (7.0, 0.0)


# ---- drops and queues ----------------------------------------------------------------


def test_drops_are_the_fastest_first_and_the_kernels_are_among_them() -> None:
    def at(uptime: float, *counts: int) -> StatusDocument:
        ttl, route, checksum, sockets, tun = counts
        made = document(uptime)
        made["counters"]["tx"] = direction(0, ttl_expired=ttl, no_route=route)
        made["counters"]["rx"] = direction(0, bad_checksum=checksum)
        made["sockets"] = [
            {"queue": n, "version": 4, "rx_bytes": 0, "rx_room": 1, "rx_drops": drops}
            for n, drops in enumerate((sockets, 1))
        ]
        made["tun_drops"] = tun
        return statusdocument.parse(made)

    shown = view(at(10.0, 9, 0, 1, 0, 4), at(12.0, 9, 1, 7, 20, 4))
    assert shown.losses == (
        Loss("rx", SOCKET_FULL, 10.0, 21),
        Loss("rx", "bad_checksum", 3.0, 7),
        Loss("tx", "no_route", 0.5, 1),
        Loss("tx", "ttl_expired", 0.0, 9),
        Loss("tx", TUN_FULL, 0.0, 4),
    )
    assert [one.drops_rate for one in shown.directions] == [0.5, 13.0]


def test_a_new_tun_counts_from_zero() -> None:
    before, now = parsed(100.0, tun_drops=500), parsed(101.0, tun_drops=3)
    assert view(before, now).losses == (Loss("tx", TUN_FULL, 3.0, 3),)
    assert view(before, parsed(101.0, tun_drops=None)).losses == ()


def test_queues_tell_how_full_they_are() -> None:
    full = {"queue": 1, "version": 6, "rx_bytes": 30, "rx_room": 40, "rx_drops": 0}
    (queue,) = view(None, parsed(sockets=[full])).queues
    assert (queue.number, queue.version, queue.fill) == (1, 6, 0.75)


def test_the_kernel_counts_what_it_carries() -> None:
    now = parsed(counters=None, sockets=[], tun_drops=None)
    shown = view(parsed(), now)
    assert (shown.directions, shown.losses, shown.queues) == ((), (), ())


# ---- the order -----------------------------------------------------------------------


def ordered(by: Column, reverse: bool = False) -> list[str]:
    made = [
        Peer("192.0.2.10", ("10.5.9.0/24",), 5.0, 1.0, 1.0, 4.0, 7, 8, 3.0),
        Peer("192.0.2.9", ("10.5.10.0/24", "x"), 5.0, 2.0, 2.0, 3.0, 6, 9, None),
        Peer("2001:db8::1", (), None, 3.0, 3.0, 2.0, 5, 5, 0.0),
        Peer("198.51.100.1", ("fd00::/64",), 9.0, 4.0, 4.0, 1.0, 8, 7, 60.0),
    ]
    names = {one.address: name for one, name in zip(made, "abcd", strict=True)}
    return [names[one.address] for one in in_order(made, by, reverse)]


@pytest.mark.parametrize(
    ("by", "usual", "reversed_"),
    [
        (Column.PEER, "badc", "cdab"),
        (Column.SUBNET, "abdc", "dbac"),
        (Column.TX_BITS, "dbac", "badc"),
        (Column.TX_PACKETS, "dcba", "abcd"),
        (Column.TX_BYTES, "dabc", "cbad"),
        (Column.RX_BITS, "dcba", "abcd"),
        (Column.RX_PACKETS, "abcd", "dcba"),
        (Column.RX_BYTES, "badc", "cdab"),
        (Column.IDLE, "cadb", "dacb"),
    ],
    ids=lambda value: getattr(value, "value", value),
)
def test_order(by: Column, usual: str, reversed_: str) -> None:
    """By number, not by letters; equals by address; the unknown last either way."""
    assert "".join(ordered(by)) == usual
    assert "".join(ordered(by, reverse=True)) == reversed_


# ---- any two documents ---------------------------------------------------------------

_COUNTS = (
    "packets",
    "bytes",
    "answers",
    "answers_limited",
    "frames",
    "frame_bytes",
    "tun_calls",
    "messages",
    "message_bytes",
    "wire_calls",
    "pumps",
)
counts = st.integers(0, 2**64 - 1)
directions = st.builds(
    lambda values, drops: {**dict(zip(_COUNTS, values, strict=True)), "drops": drops},
    st.lists(counts, min_size=11, max_size=11),
    st.dictionaries(st.sampled_from(["no_route", "short", "new"]), counts),
)
traffics = st.fixed_dictionaries({"packets": counts, "bytes": counts})
peers = st.lists(
    st.fixed_dictionaries(
        {
            "address": st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "?"]),
            "subnets": st.lists(
                st.sampled_from(["10.5.1.0/24", "fd00:5::/64", ""]), max_size=2
            ),
            "tx": traffics,
            "rx": traffics,
            "idle": st.none() | st.floats(0, 1e9),
        }
    ),
    max_size=4,
    unique_by=lambda one: str(one["address"]),
)
sockets = st.lists(
    st.fixed_dictionaries(
        {
            "queue": st.integers(0, 255),
            "version": st.sampled_from([4, 6]),
            "rx_bytes": counts,
            "rx_room": counts,
            "rx_drops": counts,
        }
    ),
    max_size=3,
)


@st.composite
def documents(draw: st.DrawFn) -> StatusDocument:
    made = document(draw(st.floats(0, 1e9)), draw(peers))
    both = st.fixed_dictionaries({"tx": directions, "rx": directions})
    base = copy.deepcopy(made["counters"])
    drawn = draw(st.none() | both)
    made["counters"] = drawn and {name: base[name] | drawn[name] for name in drawn}
    made["sockets"] = draw(sockets)
    made["tun_drops"] = draw(st.none() | counts)
    return statusdocument.parse(made)


def numbers(shown: View) -> list[float | None]:
    found: list[float | None] = []
    rows: list[Direction | Loss | Queue | Peer]
    rows = [*shown.directions, *shown.losses, *shown.queues, *shown.peers]
    for one in rows:
        values = [getattr(one, field.name) for field in fields(one)]
        found += [value for value in values if not isinstance(value, str | tuple)]
    return found


@settings(max_examples=200)
@given(st.none() | documents(), documents())
def test_nothing_is_ever_negative(
    before: StatusDocument | None, now: StatusDocument
) -> None:
    shown = view(before, now)
    assert all(number is None or number >= 0 for number in numbers(shown))
    assert len(shown.peers) == len(now["peers"])


@given(documents(), documents(), st.sampled_from(Column), st.booleans())
def test_sorting_loses_nobody(
    before: StatusDocument, now: StatusDocument, by: Column, reverse: bool
) -> None:
    shown = view(before, now)
    there = in_order(shown.peers, by, reverse)
    assert sorted(one.address for one in there) == sorted(
        one.address for one in shown.peers
    )
    assert in_order(list(reversed(shown.peers)), by, reverse) == there
