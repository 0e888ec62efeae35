"""From events to a file that tshark reads; and what goes wrong, in one line."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from collections.abc import Callable
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
from flannelette.control.observe.capture import KINDS, SNAP, outer_headers
from flannelette.control.observe.events import Event
from flannelette.control.observe.protocol import HEADER, Own
from flannelette.dataplane.forwarder import Direction, Drop, EventKind, Watch
from tests.helpers.eventrecords import START, encode, event, rx, tx
from tests.helpers.tshark import dissect, needs_tshark
from tests.helpers.watched import (
    GOOD,
    OWN,
    PING,
    FakeForwarder,
    assert_one_line,
    strange_daemon,
    watched_daemon,
)

Capture = pytest.CaptureFixture[str]

VXLAN_OWN = msgspec.structs.replace(OWN, vxlan=True, port=8472)
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x0800)
TUNNELLED = bytes(VXLAN(vni=1) / ETHER / PING)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "o.sock"


def captured(path: Path, events: list[Event], own: Own = OWN, *flags: str) -> Path:
    """The file with the packets of so many events."""
    file = path.with_name("file.pcapng")
    argv = [f"--operator-socket={path}", f"-w={file}", f"--count={len(events)}"]
    with watched_daemon(path, FakeForwarder(events), own):
        assert main(["capture", *argv, *flags]) == 0
    return file


def with_bytes(events: list[Event]) -> list[Event]:
    return [each for each in events if each.kind in KINDS]


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


def test_what_is_wanted_of_the_daemon(path: Path) -> None:
    fake = FakeForwarder([event(EventKind.READ, data=PING)])
    argv = [f"--operator-socket={path}", f"-w={os.devnull}", "--count=1"]
    with watched_daemon(path, fake):
        assert main(["capture", *argv]) == 0
    assert fake.watches == [Watch((), SNAP, 0b1100011001)]


def test_the_end_is_told(path: Path, capsys: Capture) -> None:
    captured(path, with_bytes(tx(PING)))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "watching flannel0; Ctrl-C ends it\n"
        "2 packets written, 0 events lost\n"
        "to look into the datagrams: tshark -d udp.port==8285,ip -r FILE\n"
    )


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


# ---- what goes wrong -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["-w", "x", "icmp", "andx"], "invalid filter 'icmp andx': "),
        (["icmp"], "-w"),
        (["-w", "x", "--count=-1"], "no whole number from 0 on"),
        (["-w", "x", "--snap=all"], "no whole number from 0 on"),
        (["-w", "x", "--what"], "unrecognized arguments: --what"),
    ],
)
def test_wrong_arguments_are_one_line(
    argv: list[str], part: str, capsys: Capture
) -> None:
    assert main(["capture", *argv]) == 2
    assert_one_line(capsys, part)


def test_no_daemon_is_one_line_and_no_file(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "file"
    argv = [f"--operator-socket={tmp_path / 'o'}", "-w", str(file)]
    assert main(["capture", *argv]) == 1
    assert_one_line(capsys, "no daemon answers at")
    assert not file.exists()


def test_a_refusal_is_one_line_and_no_file(path: Path, capsys: Capture) -> None:
    fake = FakeForwarder()
    fake.refusal = OSError(errno.ENOTSUP, "not supported")
    file = path.with_name("file")
    with watched_daemon(path, fake):
        argv = [f"--operator-socket={path}", "-w", str(file)]
        assert main(["capture", *argv]) == 1
    assert_one_line(capsys, "--datapath=python cannot be watched")
    assert not file.exists()


@pytest.mark.parametrize(
    ("file", "parts"),
    [
        ("/dev/full", ["No space left on device", "while writing /dev/full"]),
        ("/proc/no/file", ["No such file or directory", "/proc/no/file"]),
        ("/proc", ["Is a directory", "/proc"]),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line(
    path: Path, file: str, parts: list[str], capsys: Capture
) -> None:
    fake = FakeForwarder([event(EventKind.READ, data=PING)])
    with watched_daemon(path, fake):
        assert main(["capture", f"--operator-socket={path}", "-w", file]) == 1
    assert_one_line(capsys, *parts)
    assert fake.unwatched == 1


def test_a_disk_that_is_full_later_is_one_line(path: Path, capsys: Capture) -> None:
    """More than a file object buffers."""
    many = [event(EventKind.READ, data=bytes(10_000)) for _ in range(100)]
    with watched_daemon(path, FakeForwarder([], [], many)):
        assert main(["capture", f"--operator-socket={path}", "-w", "/dev/full"]) == 1
    assert_one_line(capsys, "No space left on device")


@needs_tshark
def test_the_daemons_end_is_one_line_after_what_there_was(
    path: Path, capsys: Capture
) -> None:
    records = encode(with_bytes(tx(PING)))
    file = path.with_name("file")
    with strange_daemon(path, GOOD + HEADER.pack(0, 0, 0, len(records), 7) + records):
        assert main(["capture", f"--operator-socket={path}", "-w", str(file)]) == 1
    err = capsys.readouterr().err
    assert "\n2 packets written, 7 events lost\n" in err
    assert err.endswith("\nflannelette: the daemon has ended the watching\n")
    assert len(dissect(file, "frame.number")) == 2


def program(path: Path, *flags: str) -> list[str]:
    argv = ["capture", f"--operator-socket={path}", *flags]
    return [sys.executable, "-m", "flannelette.control", *argv]


@needs_tshark
def test_a_capture_can_be_piped(path: Path) -> None:
    fake = FakeForwarder(with_bytes(tx(PING)))
    with watched_daemon(path, fake):
        done = subprocess.run(
            program(path, "-w", "-", "--count=2"), capture_output=True, timeout=30
        )
    assert done.returncode == 0
    assert dissect(done.stdout, "frame.interface_name") == [["flannel0"], ["underlay"]]


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        (lambda: os.open("/dev/full", os.O_WRONLY), 1, "No space left on device"),
        (lambda: closed_pipe(), 141, ""),
    ],
    ids=["full", "closed"],
)
def test_a_stdout_that_takes_nothing(
    path: Path, target: Callable[[], int], code: int, said: str
) -> None:
    fake = FakeForwarder(with_bytes(tx(PING)))
    out = target()
    with watched_daemon(path, fake):
        done = subprocess.run(
            program(path, "-w", "-"),
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    os.close(out)
    assert done.returncode == code
    assert done.stderr.count("\n") == bool(said)
    assert said in done.stderr


def closed_pipe() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


def test_a_capture_is_not_shown_on_a_terminal(
    path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["capture", f"--operator-socket={path}", "-w", "-"]) == 2
    assert_one_line(capsys, "not for a terminal")
