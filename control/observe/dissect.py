"""What scapy does for trace and capture: it compiles filters and sums packets up."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from flannelette.control.errors import ConfigError, HostError
from flannelette.control.observe.extras import need

Program = tuple[tuple[int, int, int, int], ...]
"""Instructions of classic BPF: code, jump if true, jump if false, constant."""

_DLT_RAW = 12
"""libpcap's number for packets that begin with their IP header."""

_ECHO = (0, 8)
"""ICMP's types of echo replies and requests."""


def compile_filter(text: str, command: str) -> Program:
    """The program for a filter in pcap-filter(7)'s language; () if it is empty.

    Raises ConfigError for what is no filter, HostError without scapy or libpcap."""
    if not text.strip():
        return ()
    scapy = need("scapy.arch.common", command)
    failure = need("scapy.error", command).Scapy_Exception
    try:
        program = scapy.compile_filter(text, linktype=_DLT_RAW)
    except ImportError:
        raise HostError(f"{command} needs libpcap to compile a filter") from None
    except (failure, UnicodeEncodeError) as error:
        raise ConfigError(f"invalid filter {text!r}: {_reason(error, text)}") from None
    found = (program.bf_insns[place] for place in range(program.bf_len))
    return tuple((one.code, one.jt, one.jf, one.k) for one in found)


def _reason(error: Exception, text: str) -> str:
    """libpcap's own words, out of scapy's."""
    said = str(error).removeprefix(f"Failed to compile filter expression {text!r} ")
    return said.removeprefix("(").removesuffix(")")


@cache
def _layers(command: str) -> tuple[Any, Any]:
    """scapy's modules for IPv4 and IPv6, with numbers for names."""
    logging.getLogger("scapy").setLevel(logging.ERROR)
    inet = need("scapy.layers.inet", command)
    inet6 = need("scapy.layers.inet6", command)
    named = (inet.TCP.sport, inet.TCP.dport, inet.UDP.sport, inet.UDP.dport)
    need("scapy.config", command).conf.noenum.add(*named)
    return inet, inet6


def prepare(command: str) -> None:
    """Import now what summary() needs: it takes a moment. Raises HostError."""
    _layers(command)


def summary(packet: bytes, command: str) -> str:
    """A line about a packet, of which only the beginning may be there.

    Raises HostError without scapy."""
    inet, inet6 = _layers(command)
    version = packet[0] >> 4 if packet else 0
    if version not in (4, 6):
        return f"no IP: {packet[:16].hex(' ')}"
    try:
        found = inet.IP(packet) if version == 4 else inet6.IPv6(packet)
        return _line(found, inet)
    except Exception:  # scapy's parsers raise whatever they like for strange bytes
        return f"not understood: {packet[:16].hex(' ')}"


def _line(found: Any, inet: Any) -> str:
    """scapy's summary, and what tells a packet from its neighbours."""
    text = str(found.summary()).removeprefix("IP / ").removeprefix("IPv6 / ")
    for rest in (" / Padding", " / Raw"):
        text = text.removesuffix(rest)
    if found.src not in text:  # of ICMPv6
        text = f"{found.src} > {found.dst} {text}"
    if inet.TCP in found:
        return f"{text} seq={found[inet.TCP].seq} ack={found[inet.TCP].ack}"
    if inet.ICMP in found and found[inet.ICMP].type in _ECHO:
        return f"{text} id={found[inet.ICMP].id} seq={found[inet.ICMP].seq}"
    return text
