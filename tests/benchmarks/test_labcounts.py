"""The lab's arithmetic: what has grown, per packet, and beside the kernel's counts."""

from __future__ import annotations

from typing import Any

import pytest

from flannelette.benchmarks import labcounts
from flannelette.benchmarks.labcounts import Host, Look
from flannelette.benchmarks.labdocument import Check, Sleeper, Stages
from flannelette.benchmarks.labrungs import BY_RUNG

MTU, PAYLOAD = 1472, 1420
STAGES = ("read", "lookup", "split", "send", "receive", "check", "merge", "write")


def counters(**given: Any) -> dict[str, Any]:
    """Of one direction, as in a daemon's status."""
    names = ["packets", "bytes", "frames", "frame_bytes", "tun_calls", "messages"]
    names += ["message_bytes", "wire_calls", "pumps", "timed_packets"]
    zeros: dict[str, Any] = dict.fromkeys(names, 0)
    return zeros | {"drops": {"short": 0}, "stages": dict.fromkeys(STAGES, 0)} | given


def host(tx: dict[str, Any], rx: dict[str, Any], **books: Any) -> Host:
    usual = {
        "wake_ups": 0,
        "preemptions": 0,
        "seconds": 0.0,
        "tun_bytes": 0,
        "wire_bytes": 0,
    }
    return Host({"tx": tx, "rx": rx}, **usual | books)


@pytest.fixture
def looks() -> tuple[Look, Look]:
    """1000 packets there, 100 acknowledgements back; 10 packets in a frame, 20 in a
    message."""
    before = {
        1: host(counters(packets=5, frames=7), counters(), wake_ups=3, seconds=1.0),
        2: host(counters(), counters(wire_calls=9)),
    }
    tx = {"frames": 107, "frame_bytes": 142_620, "tun_calls": 150, "messages": 50}
    there = counters(packets=1005, **tx, message_bytes=147_200, wire_calls=25, pumps=40)
    acks = counters(
        packets=100,
        frames=100,
        frame_bytes=6_200,
        tun_calls=100,
        messages=80,
        message_bytes=5_200,
        wire_calls=90,
        pumps=60,
    )
    arrived = counters(
        packets=1000,
        frames=90,
        frame_bytes=142_000,
        tun_calls=91,
        messages=50,
        message_bytes=147_200,
        wire_calls=39,
        pumps=30,
    )
    after = {
        1: host(there, acks, wake_ups=13, seconds=1.5, tun_bytes=148_900),
        2: host(acks, arrived, preemptions=4, wire_bytes=152_401),
    }
    return before, after


def test_a_run(looks: tuple[Look, Look]) -> None:
    found = labcounts.counts(BY_RUNG["tun"], MTU, *looks, 1000 * PAYLOAD, 0.5)
    assert (found.payload, found.seconds, found.packets) == (1_420_000, 0.5, 1000)
    there = {crossing.place: crossing for crossing in found.there}
    assert list(there) == list(BY_RUNG["tun"].places)
    read = there["tun_read"]
    assert (read.packets, read.units, read.calls, read.bytes) == (
        *(1000, 100, 150, 142_620),
    )
    assert read.per_packet(read.units) == 0.1
    assert read.theory is not None
    sent, received = there["wire_send"], there["wire_receive"]
    assert (sent.units, sent.calls, sent.bytes) == (50, 25, 147_200)
    assert (received.units, received.calls) == (50, 30)  # 9 were before
    assert there["tun_write"].units == 90
    assert there["app_send"].bytes == found.payload
    assert there["app_send"].calls is None


def test_acknowledgements_go_the_other_way(looks: tuple[Look, Look]) -> None:
    found = labcounts.counts(BY_RUNG["tun"], MTU, *looks, 1000 * PAYLOAD, 0.5)
    back = {crossing.place: crossing for crossing in found.back}
    assert list(back) == ["tun_read", "wire_send", "wire_receive", "tun_write"]
    assert {crossing.packets for crossing in found.back} == {100}
    assert {crossing.theory for crossing in found.back} == {None}
    assert (back["wire_receive"].calls, back["tun_write"].calls) == (90, 100)


def test_who_slept(looks: tuple[Look, Look]) -> None:
    found = labcounts.counts(BY_RUNG["tun"], MTU, *looks, PAYLOAD, 1.0)
    assert found.daemons == (
        Sleeper(1, wake_ups=10, preemptions=0, pumps=100, seconds=0.5),
        Sleeper(2, wake_ups=0, preemptions=4, pumps=90, seconds=0.0),
    )


def test_without_a_daemon() -> None:
    found = labcounts.counts(BY_RUNG["none"], 1500, {}, {}, 1448 * 7, 1.0)
    assert [crossing.place for crossing in found.there] == ["app_send", "app_receive"]
    assert found.packets == 7
    assert (found.back, found.daemons) == ((), ())


def test_nothing_passed() -> None:
    idle = {number: host(counters(), counters()) for number in (1, 2)}
    found = labcounts.counts(BY_RUNG["c"], MTU, idle, idle, 0, 1.0)
    assert found.there[1].per_packet(0) is None
    assert found.there[1].per_packet(None) is None


def test_beside_the_kernel(looks: tuple[Look, Look]) -> None:
    traced = {
        "syscalls:sys_enter_readv": 250,
        "syscalls:sys_enter_writev": 191,
        "syscalls:sys_enter_sendmmsg": 115,
        "syscalls:sys_enter_recvmmsg": 120,
        "syscalls:sys_enter_poll": 190,
        labcounts.COPIES: 330,
        labcounts.ALL_CALLS: 999,
    }
    found = {check.what: check for check in labcounts.checks(*looks, traced)}
    assert {what: (c.counted, c.traced) for what, c in found.items()} == {
        "calls on the TUN": (150 + 100 + 100 + 91, 441),
        "calls on the socket": (25 + 90 + 90 + 30, 235),
        "pumps begun": (190, 190),
        "copies out of the kernel": (100 + 80 + 100 + 50, 330),
        "bytes over the TUN": (142_620 + 2 * 6_200 + 142_000, 148_900),
        "bytes over the socket": (2 * 147_200 + 2 * 5_200, 152_401),
    }


def test_without_tracepoints_the_books_are_left(looks: tuple[Look, Look]) -> None:
    found = labcounts.checks(*looks, {})
    assert [check.source for check in found] == ["/proc/PID/io", "/proc/PID/net/dev"]
    assert all(isinstance(check, Check) for check in found)


def test_stages() -> None:
    spent = dict.fromkeys(STAGES, 0)
    before = counters(stages=spent | {"read": 100}, timed_packets=10)
    after = counters(stages=spent | {"read": 600, "send": 900}, timed_packets=60)
    looks = ({1: host(each, counters())} for each in (before, after))
    tx, rx = labcounts.stages(*looks)
    assert tx == Stages(1, "tx", 50, {"read": 500, "send": 900})
    assert tx.per_packet() == {"read": 10.0, "send": 18.0}
    assert rx == Stages(1, "rx", 0, {})
    assert rx.per_packet() == {}


# ---- what the kernel writes ----------------------------------------------------------


def test_switches() -> None:
    text = (
        "Name:\tx:y\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n"
    )
    assert labcounts.switches(text) == (150, 545)


def test_read_and_written() -> None:
    assert labcounts.read_and_written("rchar: 10\nwchar: 5\nsyscr: 99\n") == 15


def test_datagram_bytes() -> None:
    text = (
        "Inter-|   Receive |  Transmit\n face |bytes packets\n"
        "  eth0: 1042 1 0 0 0 0 0 0 2084 2 0 0 0 0 0 0\n"
    )
    assert labcounts.datagram_bytes(text) == 3000


def test_perf_counts() -> None:
    text = (
        "# started on some day\n\n"
        "4711,,syscalls:sys_enter_read,1,100.00,,\n"
        "<not supported>,,cycles,0,100.00,,\n"
        "0,,skb:skb_copy_datagram_iovec,1,100.00,,\n"
    )
    assert labcounts.perf_counts(text) == {
        "syscalls:sys_enter_read": 4711,
        "skb:skb_copy_datagram_iovec": 0,
    }
