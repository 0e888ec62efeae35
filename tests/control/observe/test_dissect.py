"""Filters by libpcap, and packets in a line."""

from __future__ import annotations

import sys

import pytest
from hypothesis import example, given, strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from flannelette.control.errors import ConfigError, HostError
from flannelette.control.observe.dissect import Program, compile_filter, summary

V4 = IP(src="10.5.1.2", dst="10.5.2.2")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::2")


def accepts(program: Program, packet: bytes) -> bool:
    """Does a filter of these few kinds of instructions take the packet?"""
    place = accumulator = 0
    while True:
        code, yes, no, constant = program[place]
        place += 1
        size = {0x20: 4, 0x28: 2, 0x30: 1}.get(code)
        match code:
            case 0x20 | 0x28 | 0x30:  # load from a fixed place
                assert size is not None
                if constant + size > len(packet):
                    return False
                accumulator = int.from_bytes(packet[constant : constant + size], "big")
            case 0x15:  # jump if equal
                place += yes if accumulator == constant else no
            case 0x54:
                accumulator &= constant
            case 0x06:  # return
                return constant > 0
            case _:
                raise AssertionError(f"instruction {code:#x}")


def test_a_filter_is_about_packets_without_a_link_header() -> None:
    program = compile_filter("icmp and host 10.5.1.2", "trace")
    assert accepts(program, bytes(V4 / ICMP()))
    assert not accepts(program, bytes(V4 / UDP()))
    assert not accepts(program, bytes(IP(src="10.5.3.3", dst="10.5.2.2") / ICMP()))
    assert not accepts(program, bytes(V6 / ICMPv6EchoRequest()))


@pytest.mark.parametrize("text", ["", "  "])
def test_no_filter_is_no_program(text: str) -> None:
    assert compile_filter(text, "trace") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("icmp andx", "'icmp andx': can't parse filter expression: syntax error"),
        ("port 99999", "illegal port number 99999 > 65535"),
        ("ether host 0:1:2:3:4:5", "ethernet addresses supported only on ethernet"),
        ("ip and ip6", "expression rejects all packets"),
        ("host \udcff", "surrogates not allowed"),
        ("(", "syntax error"),
    ],
)
def test_a_wrong_filter_is_one_line_of_libpcaps_words(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_filter(text, "trace")
    assert said in str(caught.value)
    assert str(caught.value).startswith("invalid filter ")
    assert "Failed to compile" not in str(caught.value)


def test_without_scapy_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "scapy.arch.common", None)
    with pytest.raises(HostError, match="capture needs scapy"):
        compile_filter("icmp", "capture")


def test_without_libpcap_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scapy.libs.winpcapy", None)
    with pytest.raises(HostError, match="trace needs libpcap"):
        compile_filter("icmp", "trace")


@pytest.mark.parametrize(
    ("packet", "line"),
    [
        (
            V4 / ICMP(id=3, seq=4) / bytes(56),
            "ICMP 10.5.1.2 > 10.5.2.2 echo-request 0 id=3 seq=4",
        ),
        (
            V4 / TCP(sport=5555, dport=443, flags="PA", seq=1, ack=2) / b"data",
            "TCP 10.5.1.2:5555 > 10.5.2.2:443 PA seq=1 ack=2",
        ),
        (V4 / UDP(sport=5555, dport=53), "UDP 10.5.1.2:5555 > 10.5.2.2:53"),
        (
            V6 / TCP(sport=5555, dport=443, flags="S"),
            "TCP 2001:db8::1:5555 > 2001:db8::2:443 S seq=0 ack=0",
        ),
        (
            V6 / ICMPv6EchoRequest(id=1, seq=2) / b"abc",
            "2001:db8::1 > 2001:db8::2 ICMPv6 Echo Request (id: 0x1 seq: 0x2)",
        ),
        (
            V4 / ICMP(type=3, code=4) / V4 / UDP(),
            "ICMP 10.5.1.2 > 10.5.2.2 dest-unreach fragmentation-needed / "
            "IPerror / UDPerror",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.summary(),
)
def test_a_packet_is_a_line(packet: IP, line: str) -> None:
    assert summary(bytes(packet), "trace") == line


def test_a_line_of_half_a_packet_has_its_addresses() -> None:
    packet = bytes(V4 / UDP(sport=5555, dport=53) / bytes(1000))
    assert "10.5.1.2:5555 > 10.5.2.2:53" in summary(packet[:60], "trace")
    assert "10.5.1.2 > 10.5.2.2" in summary(packet[:22], "trace")


def test_what_is_no_packet_is_said() -> None:
    assert summary(b"", "trace") == "no IP: "
    assert summary(b"\xff\x00", "trace") == "no IP: ff 00"
    assert summary(b"\x60\x00", "trace") == "not understood: 60 00"


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x45\x00", b"\x60\x00"]))
@example(bytes(V4 / ICMP())[2:24], b"\x45\x00")
def test_any_bytes_are_a_line(junk: bytes, begin: bytes) -> None:
    line = summary(begin + junk, "trace")
    assert line.isprintable()
    assert len(line) < 1000


def test_no_service_is_looked_up() -> None:
    assert ":22 > 10.5.2.2:80 " in summary(bytes(V4 / TCP(sport=22, dport=80)), "trace")
