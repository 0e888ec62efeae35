"""native/src/api.h in Python's shapes; that header is where they are explained.

PurePath has the same shapes, and needs no compiler to be read or run.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from struct import Struct
from typing import Any, NamedTuple


class Direction(IntEnum):
    """tx is TUN to wire, rx is wire to TUN."""

    TX = 0
    RX = 1


class Offload(IntFlag):
    """What the kernel may do for many packets at once (api.h: enum fp_offload)."""

    VNET = 1
    """Each frame has a virtio header: superpackets may come from the TUN."""
    MERGE_TCP = 2
    """rx: runs of TCP segments are written as one frame."""
    MERGE_UDP = 4
    """rx: runs of UDP datagrams are written as one frame."""
    GSO = 8
    """tx: a burst is one message with UDP_SEGMENT."""
    GRO = 16
    """rx: the socket joins datagrams to bursts (UDP_GRO)."""


NO_OFFLOAD = Offload(0)
MAX_BATCH = 1024
"""FP_MAX_BATCH."""
MAX_FLOWS = 16
"""FP_MAX_FLOWS: sockets that send, of one IP version."""


class PeerCheck(IntEnum):
    """Whose packets are taken from the wire (api.h: enum fp_peer_check)."""

    OFF = 0
    PEER = 1
    """Those that come from an address of a known peer."""
    STRICT = 2
    """And whose own source lies in that peer's subnets."""


class Stage(IntEnum):
    """The pieces of a packet's way whose time is taken (api.h: enum fp_stage)."""

    READ = 0
    LOOKUP = 1
    """tx: the route, and the headers checked."""
    SPLIT = 2
    """tx: cut and wrapped, checksums made in the same pass."""
    SEND = 3
    RECEIVE = 4
    CHECK = 5
    """rx: the sender and the headers."""
    CHECKSUM = 6
    """rx: verified before a merge."""
    MERGE = 7
    WRITE = 8
    """rx: packets; tx: ICMP errors."""


class Vxlan(NamedTuple):
    """What VXLAN's headers say of us. A MAC is a number of 48 bits."""

    vni: int
    mac: int


@dataclass(frozen=True, slots=True)
class PathConfig:
    """What a path is made of. The descriptors are borrowed until it is closed."""

    tun_fd: int
    """Non-blocking."""
    udp_fd: int
    """Non-blocking, bound, IPv4: receives, and sends unless others do."""
    stop_fd: int
    """An eventfd that stop() makes readable."""
    mtu: int
    """Of IPv4 packets, bytes, 68 to 65507; with VXLAN's headers not beyond that."""
    address: int
    """The TUN's IPv4 address: the source of ICMP errors."""
    batch: int = 64
    """Frames or datagrams that one system call may move, 1 to MAX_BATCH."""
    offloads: Offload = NO_OFFLOAD
    """What the descriptors were opened for."""
    mtu6: int = 0
    """Of IPv6 packets, bytes; 0: they are dropped as of a bad version."""
    address6: int = 0
    """The TUN's IPv6 address: the source of ICMPv6 errors."""
    udp6_fd: int = -1
    """Like udp_fd, for IPv6 on the underlay; -1: there is none."""
    flow_fds: tuple[int, ...] = ()
    """What sends over IPv4, chosen by the inner flow, at most MAX_FLOWS; none: udp_fd
    does."""
    flow6_fds: tuple[int, ...] = ()
    """The same for IPv6."""
    vxlan: Vxlan | None = None
    """None: flannel's udp backend, whose datagrams are the packets."""
    peer_check: PeerCheck = PeerCheck.OFF
    time_stages: int = 0
    """Take the time in one round of so many; 0: never. PurePath never does."""


class Route(NamedTuple):
    """Reach prefix/length by the peer at address:port. Addresses are integers."""

    prefix: int
    length: int
    address: int
    port: int
    version: int = 4
    """Of IP, the prefix's: 4 or 6."""
    outer: int = 4
    """Of IP, the peer's address's. An IPv4 prefix has a peer of IPv4."""
    mac: int = 0
    """The peer's, 48 bits; of VXLAN only."""

    @classmethod
    def to(
        cls,
        subnet: IPv4Network | IPv6Network,
        peer: IPv4Address | IPv6Address | None = None,
        port: int = 0,
        mac: int = 0,
    ) -> Route:
        """From the standard library's types; without a peer, only fit to delete."""
        address, outer = (0, 4) if peer is None else (int(peer), peer.version)
        prefix = int(subnet.network_address)
        return cls(prefix, subnet.prefixlen, address, port, subnet.version, outer, mac)

    @property
    def subnet(self) -> IPv4Network | IPv6Network:
        if self.version == 4:
            return IPv4Network((self.prefix, self.length))
        return IPv6Network((self.prefix, self.length))

    @property
    def peer(self) -> IPv4Address | IPv6Address:
        """The peer's address."""
        family = IPv4Address if self.outer == 4 else IPv6Address
        return family(self.address)


class Vnet(NamedTuple):
    """A frame's virtio header (VIRTIO 1.2 section 5.1.6), in host order."""

    flags: int = 0
    gso_type: int = 0
    header_length: int = 0
    segment: int = 0
    checksum_start: int = 0
    checksum_offset: int = 0


NEEDS_CSUM = 1
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP = 5


class Frame(NamedTuple):
    """A packet, or a superpacket: then vnet says how it is to be cut."""

    data: bytes
    vnet: Vnet = Vnet()


class Burst(NamedTuple):
    """Bytes cut every `segment` bytes into datagrams to one peer, or from it."""

    data: bytes
    segment: int
    address: int
    port: int
    outer: int = 4
    """Of IP, the address's."""
    flow: int = 0
    """tx: which of PathConfig.flow_fds sends, or of flow6_fds."""


class PeerCounters(NamedTuple):
    """What went to a peer and came from it, by its address on the underlay."""

    address: int
    outer: int = 4
    """Of IP, the address's: 4 or 6."""
    tx_packets: int = 0
    """Wrapped for it."""
    tx_bytes: int = 0
    """Of IP packets, outer headers not counted."""
    rx_packets: int = 0
    """Datagrams from it, those dropped later among them."""
    rx_bytes: int = 0
    """Of what they carry, outer headers not counted."""
    last_seen: int = 0
    """When its last datagram came: nanoseconds of CLOCK_MONOTONIC; 0: never."""

    @property
    def peer(self) -> IPv4Address | IPv6Address:
        family = IPv4Address if self.outer == 4 else IPv6Address
        return family(self.address)

    def plus(self, other: PeerCounters) -> PeerCounters:
        """What both have counted of the one peer."""
        return self._replace(
            tx_packets=self.tx_packets + other.tx_packets,
            tx_bytes=self.tx_bytes + other.tx_bytes,
            rx_packets=self.rx_packets + other.rx_packets,
            rx_bytes=self.rx_bytes + other.rx_bytes,
            last_seen=max(self.last_seen, other.last_seen),
        )


@dataclass(frozen=True, slots=True)
class Counters:
    """What one direction has done so far."""

    packets: int
    """Forwarded."""
    bytes: int
    """Forwarded: of IP packets, outer headers not counted."""
    answers: int
    """tx: ICMP errors made for the TUN; rx: replies to probes."""
    answers_limited: int
    """Those held back by their rate limit."""
    drops: tuple[int, ...]
    """Dropped packets, by encap.drop.Drop."""
    frames: int = 0
    """Moved through the TUN: packets and superpackets."""
    frame_bytes: int = 0
    """Of frames, virtio headers among them."""
    tun_calls: int = 0
    """System calls on the TUN, with those that moved nothing."""
    messages: int = 0
    """Moved through the sockets; a burst that the kernel cuts or joins is one, so
    packets / messages is the mean number of its segments."""
    message_bytes: int = 0
    """Of messages: UDP payload."""
    wire_calls: int = 0
    """System calls on the sockets, with those that moved nothing."""
    pumps: int = 0
    """Begun: how often there was something to read again, whichever driver found it."""
    stages: tuple[int, ...] = (0,) * len(Stage)
    """Nanoseconds in the rounds that were timed, by Stage."""
    timed_packets: int = 0
    """Forwarded in these rounds."""
    timed_rounds: int = 0

    @classmethod
    def zero(cls, drops: int) -> Counters:
        """None at all, of so many reasons to drop."""
        return cls(0, 0, 0, 0, (0,) * drops)

    def __add__(self, other: Counters) -> Counters:
        names = [field.name for field in fields(self)]
        pairs = ((getattr(self, name), getattr(other, name)) for name in names)
        return Counters(*(_sum(a, b) for a, b in pairs))


def _sum(a: Any, b: Any) -> Any:
    """Of two numbers, or of two tuples, member by member."""
    return a + b if isinstance(a, int) else tuple(map(sum, zip(a, b, strict=True)))


class EventKind(IntEnum):
    """What happened to a packet, or to several (api.h: enum fp_kind)."""

    READ = 0
    ROUTED = 1
    WRAPPED = 2
    SENT = 3
    RECEIVED = 4
    CHECKED = 5
    UNWRAPPED = 6
    MERGED = 7
    WRITTEN = 8
    DROPPED = 9


EVENT = Struct("=QQQIIIIIIHBBBBBx")
"""struct fp_event; then come the bytes it tells of, and padding to a multiple of 8.

time, high, low, size, number, packets, into, length, captured, port, version, kind,
drop, direction, outer."""


class Watch(NamedTuple):
    """What an observer wants to be told of."""

    filter: tuple[tuple[int, int, int, int], ...] = ()
    """Classic BPF on the packet as IP has it (DLT_RAW): code, jt, jf, k. Empty: all
    packets."""
    snap: int = 0
    """Bytes of a packet that are told, at most."""
    kinds: int = (1 << len(EventKind)) - 1
    """Bit 1 << kind for each that is wanted."""
    epoch: int = 0
    """Nanoseconds that are added to the monotonic clock's."""
