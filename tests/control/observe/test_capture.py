"""From events to a file that tshark reads."""

from __future__ import annotations

import struct
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from flannelette.control.main import main
from flannelette.control.observe.capture import outer_headers
from flannelette.control.observe.events import Event
from flannelette.control.observe.protocol import Own
from flannelette.dataplane.forwarder import Direction, Drop, EventKind
from tests.helpers.commandline import Capture
from tests.helpers.eventrecords import START, event, rx, tx
from tests.helpers.tshark import dissect, needs_tshark
from tests.helpers.watched import OWN, PING, FakeForwarder, watched_daemon, with_bytes

VXLAN_OWN = msgspec.structs.replace(OWN, vxlan=True, port=8472)
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x0800)
TUNNELLED = bytes(VXLAN(vni=1) / ETHER / PING)


def captured(path: Path, events: list[Event], own: Own = OWN, *flags: str) -> Path:
    """The file with the packets of so many events."""
    file = path.with_name("file.pcapng")
    argv = [f"--operator-socket={path}", f"-w={file}", f"--count={len(events)}"]
    with watched_daemon(path, FakeForwarder(events), own):
        assert main(["capture", *argv, *flags]) == 0
    return file


@needs_tshark
def test_both_sides_of_the_daemon_are_in_the_file(path: Path) -> None:
    events = with_bytes([*tx(PING, 7), *rx(PING, 8, after=100)])
    file = captured(path, events)
    seen = dissect(
        file,
        *("frame.interface_name", "frame.p2p_dir", "frame.packet_id", "ip.src"),
        *("ip.dst", "udp.srcport", "udp.dstport", "icmp.seq"),
        decode="udp.port==8285,ip",
    )
    inner = ["10.5.1.2", "10.5.2.2", "", "", "4"]
    there = ["192.0.2.1,10.5.1.2", "192.0.2.2,10.5.2.2", "8285", "8285", "4"]
    back = ["192.0.2.2,10.5.1.2", "192.0.2.1,10.5.2.2", "8285", "8285", "4"]
    out, came = str(7), str(8 + (1 << 32))
    assert seen == [
        ["flannel0", "0", out, *inner],
        ["underlay", "0", out, *there],
        ["underlay", "1", came, *back],
        ["flannel0", "1", came, *inner],
    ]


@needs_tshark
def test_times_are_nanoseconds_and_in_order(path: Path) -> None:
    times = [START + 1, START + 123_456_789, START + 2_000_000_001]
    events = [event(EventKind.READ, time=time, data=PING) for time in times]
    file = captured(path, events)
    assert dissect(file, "frame.time_epoch") == [
        [f"{time // 10**9}.{time % 10**9:09}"] for time in times
    ]


@needs_tshark
def test_a_dropped_packet_has_its_reason_as_comment(path: Path) -> None:
    data: dict[str, Any] = {"data": PING, "length": 1000}
    events = [
        event(EventKind.READ, **data),
        event(EventKind.DROPPED, after=1, drop=Drop.NO_ROUTE, **data),
        event(EventKind.DROPPED, after=2, drop=Drop.SHORT, packets=44, **data),
    ]
    file = captured(path, events)
    assert dissect(file, "frame.comment", "frame.len", "frame.cap_len") == [
        ["", "1000", "84"],
        ["dropped: no_route", "1000", "84"],
        ["dropped: short, 44 packets", "1000", "84"],
    ]


@needs_tshark
@pytest.mark.parametrize("peer", ["192.0.2.2", "2001:db8::2"])
def test_vxlan_is_seen_as_such(path: Path, peer: str) -> None:
    there: dict[str, Any] = {"outer": True, "peer": ip_address(peer), "data": TUNNELLED}
    events = [
        event(kind, **there)._replace(port=8472)
        for kind in (EventKind.SENT, EventKind.RECEIVED)
    ]
    file = captured(path, events, VXLAN_OWN)
    fields = ("frame.protocols", "vxlan.vni", "icmp.seq", "_ws.expert")
    layers = "raw:ip:udp:vxlan:eth:ethertype:ip:icmp:data"
    if ":" in peer:
        layers = layers.replace("raw:ip", "raw:ipv6")
    expected = [layers, "1", "4", ""]
    assert dissect(file, *fields, decode="udp.port==8472,vxlan") == [expected] * 2


@needs_tshark
def test_queues_are_told(path: Path) -> None:
    file = captured(path, [event(EventKind.READ, 9, queue=2, data=PING)])
    identity = str((2 << 33) + 9)
    fields = ("frame.interface_queue", "frame.packet_id")
    assert dissect(file, *fields) == [["2", identity]]


@needs_tshark
def test_the_file_says_what_was_captured_and_lost(path: Path) -> None:
    fake = FakeForwarder(with_bytes(tx(PING)))
    fake.lost = {(0, Direction.TX): 5}
    file = path.with_name("file")
    argv = [f"--operator-socket={path}", f"-w={file}", "--count=1", "--snap=100"]
    with watched_daemon(path, fake):
        assert main(["capture", *argv, "icmp", "or", "icmp6"]) == 0
    assert [(watch.snap, len(watch.filter) > 2) for watch in fake.watches] == [
        (100, True)
    ]
    told = subprocess.run(
        ["capinfos", file], capture_output=True, text=True, check=True
    ).stdout
    assert "Number of packets:   1\n" in told
    assert "Filter string = icmp or icmp6\n" in told
    assert "Capture length = 100\n" in told
    assert struct.pack("<HHQ", 5, 8, 5) in file.read_bytes()  # isb_ifdrop


def test_the_end_is_told(path: Path, capsys: Capture) -> None:
    captured(path, with_bytes(tx(PING)))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "watching flannel0; Ctrl-C ends it\n"
        "2 packets written, 0 events lost\n"
        "to look into the datagrams: tshark -d udp.port==8285,ip -r FILE\n"
    )


# ---- headers -------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 56, 1472, 65507])
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("peer", ["192.0.2.2", "2001:db8::2"])
def test_headers_are_sound(peer: str, direction: Direction, length: int) -> None:
    """scapy makes the same."""
    sent = event(
        EventKind.SENT,
        direction=direction,
        outer=True,
        peer=ip_address(peer),
        data=bytes(range(256)) * 256,
    )
    sent = sent._replace(data=sent.data[:length], length=length)
    ends = ["192.0.2.1", peer] if ":" not in peer else ["2001:db8::1", peer]
    if direction == Direction.RX:
        ends.reverse()
    source, destination = ends
    udp = UDP(sport=8285, dport=8285)
    wanted: Packet
    if ":" in peer:
        wanted = IPv6(src=source, dst=destination, hlim=64) / udp / sent.data
    else:
        udp.chksum = 0
        wanted = IP(src=source, dst=destination, id=0, ttl=64) / udp / sent.data
    assert outer_headers(sent, OWN) + sent.data == bytes(wanted)


def test_a_checksum_is_never_none_for_ipv6() -> None:
    """RFC 8200 section 8.1: one that is 0 is sent as 0xFFFF."""
    peer = ip_address("2001:db8::2")
    sent = event(EventKind.SENT, outer=True, peer=peer, data=bytes(2))
    before = outer_headers(sent, OWN)[-2:]
    assert outer_headers(sent._replace(data=before), OWN)[-2:] == b"\xff\xff"


def test_a_datagram_of_nobody_is_written_too() -> None:
    dropped = event(EventKind.DROPPED, outer=True, data=b"x")
    assert IP(outer_headers(dropped, OWN)).dst == "0.0.0.0"
    own = msgspec.structs.replace(OWN, address6=None)
    sent = event(EventKind.SENT, outer=True, peer=ip_address("2001:db8::2"))
    assert IPv6(outer_headers(sent, own)).src == "::"
