"""What happens to a packet, without system calls. The C twin is native/src/path.c.

tx: check its header; find the peer, or answer "no route"; udp: is there a hop to take?;
    is it too long? then answer that; udp: take the hop; wrap it.
rx: is the sender a peer?; vxlan: check its headers and take them off; is the packet too
    long?; check its header; udp: take a hop; strict: is its source that peer's?
    vxlan: do what a kernel left to its hardware (encap/l4.py).

The order of the checks decides which drop is counted, and what an answer quotes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flannelette.dataplane.routes import RouteTable
from flannelette.encap import icmp, icmp6, ip, l4, udp, vxlan
from flannelette.encap.drop import Drop, Dropped
from flannelette.native.api import (
    Burst,
    Counters,
    Direction,
    PathConfig,
    PeerCheck,
    Route,
)


class Tally:
    """Counters in the making."""

    def __init__(self) -> None:
        self.packets = self.bytes = self.answers = self.answers_limited = 0
        self.drops = [0] * len(Drop)

    def forwarded(self, length: int) -> None:
        self.packets += 1
        self.bytes += length

    def counters(self) -> Counters:
        return Counters(
            self.packets,
            self.bytes,
            self.answers,
            self.answers_limited,
            tuple(self.drops),
        )


class PureCore:
    """The routes, and what they make of packets."""

    def __init__(self, config: PathConfig) -> None:
        self._config = config
        self._limiter = icmp.Limiter()
        self.routes = RouteTable()
        self.tallies = {direction: Tally() for direction in Direction}

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
        route = self.routes.find(header.destination, header.version)
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
        return Burst(
            datagram, len(datagram), route.address, route.port, route.outer, flow
        )

    def _datagram(self, packet: bytes, header: ip.Header, route: Route) -> bytes:
        mtu, own = self._mtu(header.version), self._config.vxlan
        if own is None:
            return udp.wrap(packet, header, mtu)
        if header.total > mtu:
            raise Dropped(Drop.OVERSIZE)
        return vxlan.wrap(
            packet[: header.total], own.vni, route.mac, own.mac, header.version
        )

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

    def unwrap(self, bursts: Sequence[Burst]) -> list[bytes]:
        """As Path.unwrap."""
        drops = self.tallies[Direction.RX].drops
        frames: list[bytes] = []
        for burst in bursts:
            for datagram in self._datagrams(burst):
                try:
                    frames += self._unwrap_one(datagram, burst)
                except Dropped as dropped:
                    drops[dropped.reason] += 1
        return frames

    def _datagrams(self, burst: Burst) -> list[bytes]:
        """Those of a peer; what others sent is counted."""
        check = self._config.peer_check is not PeerCheck.OFF
        known = not check or self.routes.is_peer(burst.address, burst.outer)
        if known and self._is_superpacket(burst):
            return [burst.data]
        starts = range(0, max(len(burst.data), 1), max(burst.segment, 1))
        if not known:
            self.tallies[Direction.RX].drops[Drop.UNKNOWN_PEER] += len(starts)
            return []
        return [burst.data[start : start + burst.segment] for start in starts]

    def _is_superpacket(self, burst: Burst) -> bool:
        """Is the burst a single datagram, with a superpacket in it? A kernel sends that
        to our own machine, or over a virtual link; what the socket then calls the
        burst's segment is that of the inner payload."""
        if self._config.vxlan is None or len(burst.data) <= burst.segment:
            return False
        packet = burst.data[vxlan.HEADER :]
        return bool(packet) and ip.claimed_total(packet) == len(packet)

    def _unwrap_one(self, datagram: bytes, burst: Burst) -> Iterable[bytes]:
        """The packets in a datagram. Raises Dropped."""
        config = self._config
        if config.vxlan is None:
            packet = udp.unwrap(datagram, config.mtu, config.mtu6)
            self._check_source(ip.parse(packet, ipv6=True), burst)
            return [packet]
        packet, version = vxlan.unwrap(datagram, config.vxlan.vni, config.vxlan.mac)
        superpacket = len(datagram) > burst.segment
        mtu = self._mtu(version) or config.mtu
        if not superpacket and len(packet) > mtu:
            raise Dropped(Drop.OVERSIZE)
        header = ip.parse(packet, config.mtu6 > 0)
        if header.version != version:
            raise Dropped(Drop.BAD_ETHERTYPE)
        partial = l4.is_partial(packet, header)
        headers = l4.headers(packet, header) if superpacket and partial else 0
        uncut = not headers or header.total - headers <= burst.segment
        if (header.total if uncut else headers + burst.segment) > mtu:
            raise Dropped(Drop.OVERSIZE)
        self._check_source(header, burst)
        if not uncut:
            return l4.cut(packet, header, burst.segment)
        packet = packet[: header.total]
        return [l4.finish(packet, header) if partial else packet]

    def _check_source(self, header: ip.Header, burst: Burst) -> None:
        if self._config.peer_check is PeerCheck.STRICT:
            route = self.routes.find(header.source, header.version)
            sender = burst.outer, burst.address
            if route is None or (route.outer, route.address) != sender:
                raise Dropped(Drop.WRONG_SOURCE)
