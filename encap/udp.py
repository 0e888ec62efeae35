"""flannel's udp backend on the wire: the IP packet is the UDP payload.

No header, no magic, no authentication (flannel-behaviour.md section 5.2). Both ends
take a hop from the packet (U11), and neither sends padding. A packet longer than the
overlay's MTU is dropped whole, where flanneld would cut it (U13). IPv6 packets are told
by their version; flanneld knows none.
"""

from __future__ import annotations

PORT = 8285
"""The port when the network configuration names none (U1)."""

OVERHEAD = 28
"""Bytes that an outer IPv4 and UDP header take from the interface's MTU (U5)."""

MOST = 65507
"""Bytes of payload that one datagram can carry over IPv4."""
