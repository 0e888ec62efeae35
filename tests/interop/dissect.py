"""What a VXLAN datagram has to look like on the wire, told by scapy."""

from __future__ import annotations

from typing import Any, NamedTuple

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

MADE = ("len", "plen", "chksum", "cksum", "ihl", "dataofs")
"""Fields that scapy makes anew when they are deleted: lengths and checksums."""
PORTS = range(32768, 61000)
"""What the kernel picks from when a socket has no port (ip_local_port_range)."""


class Tunnel(NamedTuple):
    """What all datagrams of one direction have in common."""

    source: str
    destination: str
    port: int
    vni: int
    source_mac: str
    """Of the inner Ethernet header, as the next."""
    destination_mac: str


def check(frame: bytes, tunnel: Tunnel) -> Packet:
    """Every field of the headers outside, and lengths and checksums throughout (W1, W2,
    W4, W5, H5, H6); the packet inside."""
    outer = Ether(frame)
    six = IPv6 in outer and (IP not in outer or outer.type == 0x86DD)
    ip = outer[IPv6 if six else IP]
    assert (ip.src, ip.dst) == (tunnel.source, tunnel.destination)
    if six:
        assert (ip.version, ip.tc, ip.hlim, ip.nh) == (6, 0, 64, 17)
    else:
        assert (ip.version, ip.ihl, ip.tos, ip.ttl, ip.proto) == (4, 5, 0, 64, 17)
        assert (ip.frag, int(ip.flags)) == (0, 0), "a fragment, or DF"
    udp = ip.payload
    assert isinstance(udp, UDP)
    assert udp.dport == tunnel.port
    assert udp.sport in PORTS
    assert udp.chksum != 0
    assert udp.len == len(bytes(udp))
    assert bytes(udp.payload)[:8] == b"\x08\0\0\0" + tunnel.vni.to_bytes(3) + b"\0"
    vxlan = udp.payload
    assert isinstance(vxlan, VXLAN)
    assert (int(vxlan.flags), vxlan.vni) == (0x08, tunnel.vni)
    inner = vxlan.payload
    assert isinstance(inner, Ether)
    assert (inner.src, inner.dst) == (tunnel.source_mac, tunnel.destination_mac)
    packet = inner.payload
    assert isinstance(packet, IPv6 if six else IP)
    length = packet.plen + 40 if six else packet.len
    assert length == len(bytes(packet)), "padding"
    assert _made_anew(outer) == frame
    result: Packet = packet
    return result


def _made_anew(packet: Any) -> bytes:
    """The same with its lengths and checksums computed by scapy, down to where a
    fragment's payload begins."""
    packet = packet.copy()
    layer = packet
    while layer:
        for name in MADE:
            if name in layer.fields:
                delattr(layer, name)
        if isinstance(layer, IP) and (layer.frag or int(layer.flags) & 1):
            break
        if isinstance(layer, IPv6ExtHdrFragment):
            break
        layer = layer.payload
    return bytes(packet)
