"""What an operator sees of followed packets: text in 80 columns, or documents."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from flannelette.control.observe import text as texts
from flannelette.control.observe.events import Event
from flannelette.control.observe.following import Follower
from flannelette.control.observe.protocol import Own
from flannelette.dataplane.forwarder import Direction, Drop, EventKind
from tests.helpers.eventrecords import PEER, event, rx, tx
from tests.helpers.watched import OWN, PING, PING_LINE

LONG = bytes(
    IPv6(src="2001:db8:aaaa:bbbb:cccc:dddd:eeee:1111", dst="2001:db8:a:b:c:d:e:f")
    / TCP(sport=55555, dport=44444, flags="PA", seq=0xFFFFFFFF, ack=0xFFFFFFFF)
    / bytes(1300)
)


@pytest.fixture(autouse=True)
def greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def merged(packet: bytes) -> list[Event]:
    """Two datagrams whose packets are written as one frame."""
    first, second = rx(packet, 5)[:3], rx(packet, 6, after=1)[:3]
    both = {"packets": 2, "length": 2 * len(packet), "data": packet}
    return [
        *first,
        *second,
        event(EventKind.MERGED, 6, into=5, after=2),
        event(EventKind.WRITTEN, 5, after=20, **both),
    ]


def text(events: list[Event], own: Own = OWN) -> list[str]:
    follower = Follower()
    packets = [*follower.feed(events), *follower.finish()]
    return [line for packet in packets for line in texts.lines(packet, own)]


def test_a_packet_on_its_way_out() -> None:
    assert text(tx(PING, after=123_456)) == [
        f"#1 tx 22:13:20.123456 {PING_LINE}",
        "      0.0 us  read       84 bytes from flannel0",
        "      1.5 us  routed     to 192.0.2.2:8285",
        "      2.0 us  wrapped    into 1 datagram",
        "     12.0 us  sent       1 datagram, 84 bytes",
    ]


def test_a_packet_on_its_way_in() -> None:
    assert text(rx(PING)) == [
        f"#1 rx 22:13:20.000000 {PING_LINE}",
        "      0.0 us  received   84 bytes from 192.0.2.2:8285",
        "      0.2 us  checked    its sender may send",
        "      0.5 us  unwrapped  its packet is sound",
        "      9.8 us  written    84 bytes to flannel0",
    ]


def test_packets_that_are_written_as_one() -> None:
    lines = text(merged(PING))
    assert lines[4] == "     20.0 us  written    168 bytes to flannel0, 2 packets"
    assert lines[-2:] == [
        "      1.0 us  merged     into #1",
        "     19.0 us  written    168 bytes to flannel0, 2 packets",
    ]


def test_a_packet_merged_into_another_ones_frame() -> None:
    events = [*rx(PING, 6)[:3], event(EventKind.MERGED, 6, into=5, after=1)]
    assert text(events)[-1] == (
        "      1.0 us  merged     into a packet that is not followed"
    )


def test_a_superpacket_is_sent_as_many_datagrams() -> None:
    begin = tx(PING)[:2]
    many = [
        event(EventKind.SENT, number, after=9 + number, outer=True, length=1400)
        for number in range(44)
    ]
    lines = text([*begin, event(EventKind.WRAPPED, packets=44, after=2), *many])
    assert lines[-2:] == [
        "      2.0 us  wrapped    into 44 datagrams",
        "     52.0 us  sent       44 datagrams, 61,600 bytes",
    ]


def test_a_filter_may_hide_some_of_the_datagrams() -> None:
    wrapped = event(EventKind.WRAPPED, packets=44, after=2)
    lines = text([*tx(PING)[:2], wrapped, *tx(PING)[3:]])
    assert lines[-2:] == [
        "     12.0 us  sent       1 datagram, 84 bytes",
        "              of 43 other packets nothing is known",
    ]


def test_drops_stand_out_with_their_reason() -> None:
    lost = event(EventKind.DROPPED, after=1.5, drop=Drop.NO_ROUTE)
    assert text([*tx(PING)[:1], lost])[-1] == "      1.5 us  DROPPED    no_route"
    drops = {"direction": Direction.RX, "drop": Drop.WRITE_FAILED, "packets": 2}
    lines = text([*merged(PING)[:-1], event(EventKind.DROPPED, 5, after=9, **drops)])
    assert lines[4] == "      9.0 us  DROPPED    write_failed, 2 packets"


def test_what_is_missing_is_said() -> None:
    assert text(tx(PING)[:2])[-1] == " " * 14 + "what came next is not known"
    assert text(tx(PING)[1:2])[0].endswith("its bytes are not known")


def test_queues_other_than_the_first_are_said() -> None:
    for events in (tx(PING), rx(PING)):
        lines = text([each._replace(queue=3) for each in events])
        assert lines[1].endswith(", queue 3")


def test_a_tunnelled_packet_is_seen_inside() -> None:
    own = msgspec.structs.replace(OWN, vxlan=True)
    tunnelled = bytes(VXLAN(vni=1) / Ether(src="2:0:0:0:0:1", dst="2:0:0:0:0:2") / PING)
    assert text(rx(tunnelled)[:2], own)[0].endswith(PING_LINE)


@pytest.mark.parametrize("events", [tx(LONG, after=999_999), merged(LONG)])
def test_80_columns_are_enough(events: list[Event]) -> None:
    peer: dict[str, Any] = {"port": 65535, "version": 6, "address": (1 << 128) - 1}
    later = [
        each._replace(time=each.time + place * 123_456_789, **peer)
        for place, each in enumerate(events)
    ]
    lines = text(later)
    assert max(map(len, lines)) <= 80
    assert any(line[25:].startswith(("[ffff:", "to [ffff:")) for line in lines)
    assert any(line.startswith("    2001:db8:a:b:c:d:e:f:44444") for line in lines)


# ---- documents -----------------------------------------------------------------------


def stage(name: str, us: float, size: int) -> dict[str, Any]:
    return {"stage": name, "us": us, "packets": 1, "bytes": size, "drop": None}


def test_the_document_has_all_of_it() -> None:
    follower = Follower()
    packets = [*follower.feed([*tx(PING), *merged(PING)]), *follower.finish()]
    sent, first, second = (texts.document(packet, OWN) for packet in packets)
    assert json.loads(json.dumps(sent)) == {
        "packet": 1,
        "direction": "tx",
        "queue": 0,
        "number": 0,
        "time": 1_700_000_000.0,
        "peer": "192.0.2.2:8285",
        "summary": PING_LINE,
        "stages": [
            stage("read", 0.0, 84),
            stage("routed", 1.5, 0),
            stage("wrapped", 2.0, 0),
            stage("sent", 12.0, 84),
        ],
        "into": None,
        "verdict": "sent",
        "drop": None,
    }
    assert (first["into"], second["into"], second["verdict"]) == (None, 2, "written")


def test_the_document_says_why_a_packet_was_dropped() -> None:
    follower = Follower()
    lost = event(EventKind.DROPPED, drop=Drop.SHORT, peer=PEER)
    (packet,) = follower.feed([event(EventKind.READ), lost])
    document = texts.document(packet, OWN)
    assert (document["verdict"], document["drop"]) == ("dropped", "short")
    assert document["stages"][-1]["drop"] == "short"
