"""VXLAN on the wire (RFC 7348 section 5): what stands before an inner packet.

    0         8        32           56      64
    | flags   | 0      | VNI         | 0     |     VXLAN: flags is the I bit alone
    | destination MAC (48) | source MAC (48) | EtherType (16) |     inner Ethernet

The inner frame has no VLAN tag, no FCS and no least length (W5). The kernel drops what
has a flag or reserved bit that it does not know, another VNI, or a source MAC that is
no host's or is the receiver's own (W10); so do we, and so that it takes what we send,
we send none of that (W4, H5, H6). ARP and whatever else is meant for many has no place
here: everybody's MAC is known from its lease (W9).
"""

from __future__ import annotations

import struct

from flannelette.encap.drop import Drop, Dropped

PORT = 8472
"""The port when the network configuration names none: the kernel's own (V2)."""

HEADER = 22
"""Bytes before the packet: VXLAN's 8, Ethernet's 14."""

OVERHEAD = 50
"""Bytes that all headers over IPv4 take from the interface's MTU (V4)."""

OVERHEAD6 = 70
"""Bytes that they take over IPv6 (V8)."""

VNI_BITS = 24
MAC_BITS = 48

_HEADER = struct.Struct("!B3s3sB6s6sH")
_VALID_VNI = 0x08
_ETHERTYPE = {4: 0x0800, 6: 0x86DD}
_VERSION = {ethertype: version for version, ethertype in _ETHERTYPE.items()}
_GROUP = 1 << 40
"""The bit of a MAC that says multicast; broadcast has it, too."""


def wrap(packet: bytes, vni: int, destination: int, source: int, version: int) -> bytes:
    """The datagram that carries a packet of that IP version. MACs are numbers of 48
    bits, the VNI one of 24."""
    header = _HEADER.pack(
        _VALID_VNI,
        bytes(3),
        vni.to_bytes(3, "big"),
        0,
        destination.to_bytes(6, "big"),
        source.to_bytes(6, "big"),
        _ETHERTYPE[version],
    )
    return header + packet


def unwrap(datagram: bytes, vni: int, own: int) -> tuple[bytes, int]:
    """The packet in a datagram, not looked at, and the IP version that its EtherType
    says; `own` is our MAC.

    Raises Dropped, and nothing else, with the first reason that holds."""
    if len(datagram) < HEADER:
        raise Dropped(Drop.SHORT)
    flags, zero, network, reserved, destination, source, ethertype = _HEADER.unpack(
        datagram[:HEADER]
    )
    if flags != _VALID_VNI or any(zero) or reserved:
        raise Dropped(Drop.BAD_FLAGS)
    if int.from_bytes(network, "big") != vni:
        raise Dropped(Drop.WRONG_VNI)
    sender = int.from_bytes(source, "big")
    if int.from_bytes(destination, "big") != own or not _is_another(sender, own):
        raise Dropped(Drop.WRONG_MAC)
    if ethertype not in _VERSION:
        raise Dropped(Drop.BAD_ETHERTYPE)
    return datagram[HEADER:], _VERSION[ethertype]


def _is_another(mac: int, own: int) -> bool:
    """Is it a single host's, and not ours?"""
    return mac not in (0, own) and not mac & _GROUP
