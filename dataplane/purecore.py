"""What happens to a packet, without system calls. The C twins are
native/src/wrap.c and unwrap.c.

tx: check its header; find the peer, or answer "no route"; udp: is there a hop to take?;
    is it too long? then answer that; udp: take the hop; wrap it.
rx: is the sender a peer?; vxlan: check its headers and take them off; is the packet too
    long for any version?; check its header; udp: is there a hop to take?; strict: is
    its source that peer's?; is it too long?; udp: take the hop; vxlan: do what a kernel
    left to its hardware (encap/l4.py).

The order of the checks decides which drop is counted, and what an answer quotes.
"""

from __future__ import annotations

from collections.abc import Sequence

from flannelette.dataplane.routes import RouteTable
from flannelette.encap import icmp, icmp6, ip, l4, probe, vxlan
from flannelette.encap.drop import Drop, Dropped
from flannelette.native.api import (
    Burst,
    Counters,
    Direction,
    PathConfig,
    PeerCheck,
    PeerCounters,
    Route,
)

TAKEN_BY_ALL = 1280
"""Bytes of a packet that fits every pod's MTU: IPv6 demands as much of each link (RFC
8200 section 5)."""


class Tally:
    """Counters in the making, with their names."""

    def __init__(self) -> None:
        self.packets = self.bytes = self.answers = self.answers_limited = 0
        self.frames = self.frame_bytes = self.tun_calls = 0
        self.messages = self.message_bytes = self.wire_calls = self.pumps = 0
        self.drops = [0] * len(Drop)

    def forwarded(self, length: int) -> None:
        self.packets += 1
        self.bytes += length

    def moved_frame(self, length: int) -> None:
        self.frames += 1
        self.frame_bytes += length

    def moved_message(self, length: int) -> None:
        self.messages += 1
        self.message_bytes += length

    def counters(self) -> Counters:
        return Counters(**vars(self) | {"drops": tuple(self.drops)})


class Traffic:
    """Of one peer; the names are those of PeerCounters."""

    def __init__(self) -> None:
        self.tx_packets = self.tx_bytes = 0
        self.rx_packets = self.rx_bytes = self.last_seen = 0


class PureCore:
    """The routes, and what they make of packets."""

    def __init__(self, config: PathConfig) -> None:
        self._config = config
        self._limiter = icmp.Limiter()
        self._probe_limiter = icmp.Limiter()
        self._routes = RouteTable()
        self.tallies = {direction: Tally() for direction in Direction}
        self.replies: list[Burst] = []
        """To probes among what was unwrapped last."""
        # By IP version and address of the peer; replaced as a whole.
        self._traffic: dict[tuple[int, int], Traffic] = {}

    def set_routes(self, routes: Sequence[Route]) -> None:
        """Raises ValueError as RouteTable.set does."""
        self._routes.set(routes)
        self._follow_routes()

    def del_routes(self, routes: Sequence[Route]) -> None:
        self._routes.delete(routes)
        self._follow_routes()

    def _follow_routes(self) -> None:
        """A peer is counted for as long as routes lead to it."""
        old = self._traffic
        self._traffic = {
            peer: old.get(peer) or Traffic() for peer in self._routes.peers
        }

    def peers(self) -> list[PeerCounters]:
        return [
            PeerCounters(address, outer, **vars(traffic))
            for (outer, address), traffic in self._traffic.items()
        ]

    def _mtu(self, version: int) -> int:
        return self._config.mtu6 if version == 6 else self._config.mtu

    # ---- tx ------------------------------------------------------------------------

    def wrap(
        self, frames: Sequence[bytes], now: int
    ) -> tuple[list[Burst], list[bytes]]:
        """As Path.wrap."""
        bursts: list[Burst] = []
        answers: list[bytes] = []
        for frame in frames:
            try:
                bursts.append(self._wrap_one(frame, now, answers))
            except Dropped as dropped:
                self.tallies[Direction.TX].drops[dropped.reason] += 1
        return bursts, answers

    def _wrap_one(self, packet: bytes, now: int, answers: list[bytes]) -> Burst:
        config = self._config
        header = ip.parse(packet, config.mtu6 > 0)
        route = self._routes.find(header.destination, header.version)
        if route is None:
            self._answer(self._no_route(packet, header), now, answers)
            raise Dropped(Drop.NO_ROUTE)
        try:
            datagram = self._datagram(packet, header, route)
        except Dropped as dropped:
            if dropped.reason is Drop.OVERSIZE:
                self._answer(self._too_big(packet, header), now, answers)
            raise
        fds = config.flow6_fds if route.outer == 6 else config.flow_fds
        flow = l4.flow(packet, header, max(len(fds), 1))
        if traffic := self._traffic.get((route.outer, route.address)):
            traffic.tx_packets += 1
            traffic.tx_bytes += header.total
        return Burst(
            datagram, len(datagram), route.address, route.port, route.outer, flow
        )

    def _datagram(self, packet: bytes, header: ip.Header, route: Route) -> bytes:
        own = self._config.vxlan
        if own is None:
            datagram = ip.take_hop(packet, header)
        else:
            datagram = vxlan.wrap(
                packet[: header.total], own.vni, route.mac, own.mac, header.version
            )
        if header.total > self._mtu(header.version):
            raise Dropped(Drop.OVERSIZE)
        return datagram

    def _no_route(self, packet: bytes, header: ip.Header) -> bytes | None:
        """The error that answers the packet, if any may."""
        source, source6 = self._config.address, self._config.address6
        if header.version == 6:
            kind = icmp6.UNREACHABLE
            if icmp6.answerable(packet, header, kind):
                return icmp6.error(packet, header, source6, kind)
        elif icmp.answerable(packet, header, icmp.NET_UNREACHABLE):
            return icmp.unreachable(packet, header, source, icmp.NET_UNREACHABLE)
        return None

    def _too_big(self, packet: bytes, header: ip.Header) -> bytes | None:
        """The error that answers the packet, if any may. IPv6 is fragmented by nobody
        but its source; of IPv4, only what says so."""
        source, source6 = self._config.address, self._config.address6
        mtu = self._mtu(header.version)
        if header.version == 6:
            kind = icmp6.TOO_BIG
            if icmp6.answerable(packet, header, kind):
                return icmp6.error(packet, header, source6, kind, mtu)
        elif header.fragment & ip.DONT_FRAGMENT:
            code = icmp.FRAGMENTATION_NEEDED
            if icmp.answerable(packet, header, code):
                return icmp.unreachable(packet, header, source, code, mtu)
        return None

    def _answer(self, error: bytes | None, now: int, answers: list[bytes]) -> None:
        tally = self.tallies[Direction.TX]
        if error is None:
            return
        if not self._limiter.allow(now):
            tally.answers_limited += 1
            return
        answers.append(error)
        tally.answers += 1

    # ---- rx ------------------------------------------------------------------------

    def unwrap(self, bursts: Sequence[Burst], now: int = 0) -> list[bytes]:
        """As Path.unwrap."""
        drops = self.tallies[Direction.RX].drops
        frames: list[bytes] = []
        self.replies = []
        for burst in bursts:
            superpacket = self._is_superpacket(burst)
            starts = range(0, max(len(burst.data), 1), max(burst.segment, 1))
            datagrams = [burst.data[start : start + burst.segment] for start in starts]
            if superpacket:
                datagrams = [burst.data]
            self._count_received(burst, len(datagrams), now)
            known = self._routes.is_peer(burst.address, burst.outer)
            for datagram in datagrams:
                try:
                    if self._config.peer_check and not known:
                        raise Dropped(Drop.UNKNOWN_PEER)
                    if superpacket:
                        frames += self._unwrap_superpacket(burst)
                    else:
                        frames.append(self._unwrap_one(datagram, burst))
                except Dropped as dropped:
                    if not self._is_probe(datagram, burst, known, now):
                        drops[dropped.reason] += dropped.packets
        return frames

    def _count_received(self, burst: Burst, datagrams: int, now: int) -> None:
        if traffic := self._traffic.get((burst.outer, burst.address)):
            headers = datagrams * (vxlan.HEADER if self._config.vxlan else 0)
            traffic.rx_packets += datagrams
            # A datagram may be too short for its headers.
            traffic.rx_bytes += max(0, len(burst.data) - headers)
            traffic.last_seen = now

    def _is_probe(self, datagram: bytes, burst: Burst, known: bool, now: int) -> bool:
        """Then there is a reply, if the rate allows it. No packet is mistaken for a
        probe."""
        tally = self.tallies[Direction.RX]
        try:
            asked = probe.parse(datagram)
        except probe.NoProbe:
            return False
        if asked.kind is not probe.Kind.REQUEST:
            return False
        if not self._probe_limiter.allow(now):
            tally.answers_limited += 1
            return True
        tally.answers += 1
        reply = probe.reply(asked.nonce, len(datagram), known)
        self.replies.append(
            Burst(reply, len(reply), burst.address, burst.port, burst.outer)
        )
        return True

    def _unwrap_one(self, datagram: bytes, burst: Burst) -> bytes:
        """The packet in a datagram. Raises Dropped."""
        packet, promised = self._open(datagram)
        if len(packet) > max(self._config.mtu, self._config.mtu6):
            raise Dropped(Drop.OVERSIZE)  # perhaps not even received whole
        header = self._check(packet, promised, burst)
        if len(packet) > self._mtu(header.version):
            raise Dropped(Drop.OVERSIZE)
        if self._config.vxlan is None:
            return ip.take_hop(packet, header)
        packet = packet[: header.total]
        partial = l4.is_partial(packet, header)
        return l4.finish(packet, header) if partial else packet

    def _open(self, datagram: bytes) -> tuple[bytes, int | None]:
        """What a datagram carries, and the IP version that stands before it, if one
        does. Raises Dropped."""
        own = self._config.vxlan
        return vxlan.unwrap(datagram, own.vni, own.mac) if own else (datagram, None)

    def _check(self, packet: bytes, promised: int | None, burst: Burst) -> ip.Header:
        """Raises Dropped."""
        header = ip.parse(packet, self._config.mtu6 > 0)
        if promised not in (None, header.version):
            raise Dropped(Drop.BAD_ETHERTYPE)
        if self._config.vxlan is None and header.ttl <= 1:
            raise Dropped(Drop.TTL_EXPIRED)
        if self._config.peer_check is PeerCheck.STRICT:
            route = self._routes.find(header.source, header.version)
            sender = burst.outer, burst.address
            if route is None or (route.outer, route.address) != sender:
                raise Dropped(Drop.WRONG_SOURCE)
        return header

    # ---- rx: superpackets of kernel peers ------------------------------------------
    #
    # Over a virtual link a kernel's VXLAN device hands over a whole superpacket as one
    # datagram. If that is UDP, the socket says with UDP_GRO how long the inner segments
    # are, where of other bursts it says that of the datagrams; of TCP nobody says it.

    def _is_superpacket(self, burst: Burst) -> bool:
        """Does the first packet's own length account for the whole burst, though that
        is cut, or too long for one packet?"""
        packet = burst.data[vxlan.HEADER :]
        if self._config.vxlan is None or len(packet) < ip.MIN_HEADER:
            return False
        version, total = ip.claims(packet)
        cut = burst.segment < len(burst.data)
        return total == len(packet) and (cut or total > self._mtu(version))

    def _unwrap_superpacket(self, burst: Burst) -> list[bytes]:
        """The packets in a superpacket. Raises Dropped."""
        packet, promised = self._open(burst.data)
        header = self._check(packet, promised, burst)
        mtu, udp = self._mtu(header.version), header.protocol == l4.UDP
        told = burst.segment < len(burst.data)
        # If nobody says where to cut: TCP may be cut anywhere, UDP not.
        if not l4.has_checksum(header) or (udp and not told):
            raise Dropped(Drop.OVERSIZE)
        headers = l4.headers(packet, header)
        full = min(mtu, TAKEN_BY_ALL)
        if not 0 < headers < min(full, header.total):
            raise Dropped(Drop.BAD_OFFLOAD)
        segment = burst.segment if told else full - headers
        packets = -(-(header.total - headers) // segment)
        if udp and packets > l4.MAX_UDP_SEGMENTS:
            raise Dropped(Drop.BAD_OFFLOAD, packets)
        if min(headers + segment, header.total) > mtu:
            raise Dropped(Drop.OVERSIZE, packets)
        if not l4.is_partial(packet, header) and not l4.is_sound(packet, header):
            raise Dropped(Drop.BAD_CHECKSUM, packets)
        if packets == 1:
            return [self._unwrap_one(burst.data, burst)]
        return list(l4.cut(packet, header, segment))
