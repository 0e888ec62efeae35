"""What `flannelette top` shows: two status documents and the seconds between them.

A rate is what a counter has gained, for each second. None is what is not known: there
is no earlier document of this daemon, or nothing has happened that a mean could be of.
Counters of a daemon only grow, but a peer that left and came back begins at 0 again,
and so does a TUN that was replaced: what is smaller than before is all new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import ip_address
from operator import attrgetter
from typing import TypeAlias

from flannelette.control.statusdocument import (
    DirectionDocument,
    PeerDocument,
    SocketDocument,
    StatusDocument,
)

SOCKET_FULL = "socket full"
TUN_FULL = "TUN full"
"""Reasons of the kernel, beside those of encap.drop.Drop."""


@dataclass(frozen=True, slots=True)
class Direction:
    """tx or rx, of all peers."""

    name: str
    packets: int
    """Since the daemon started, as are `bytes`."""
    bytes: int
    bits_rate: float | None
    """Of IP packets, bits/s."""
    packets_rate: float | None
    burst: float | None
    """Packets in one message through a socket: what UDP GSO and GRO bring."""
    frame: float | None
    """Packets in one frame through the TUN: what its offloads bring."""
    call: float | None
    """Packets moved by one system call."""
    pumps_rate: float | None
    drops_rate: float | None
    """Of all reasons, those of the kernel too."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Packets lost in one direction for one reason."""

    direction: str
    reason: str
    rate: float | None
    total: int


@dataclass(frozen=True, slots=True)
class Queue:
    """A socket that receives."""

    number: int
    version: int
    """Of IP."""
    fill: float
    """Of its room, 0 to 1; the kernel may go a little beyond."""


@dataclass(frozen=True, slots=True)
class Peer:
    address: str
    subnets: tuple[str, ...]
    tx_bits: float | None
    """A second."""
    tx_packets: float | None
    rx_bits: float | None
    rx_packets: float | None
    tx_bytes: int
    """Since it became a peer."""
    rx_bytes: int
    idle: float | None
    """Seconds since we have heard of it; None: never."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything that is shown at one time."""

    status: StatusDocument
    directions: tuple[Direction, ...]
    """tx and rx; none where the kernel carries the packets."""
    losses: tuple[Loss, ...]
    """The fastest first; those that never happened are left out."""
    queues: tuple[Queue, ...]
    peers: tuple[Peer, ...]


def view(before: StatusDocument | None, now: StatusDocument) -> View:
    """What to show of `now`, and of the seconds since `before`; None: no rates."""
    gain = _Gain(_seconds_between(before, now))
    losses = tuple(sorted(_losses(before, now, gain), key=_fastest_first))
    return View(
        now,
        tuple(_directions(before, now, gain, losses)),
        losses,
        tuple(map(_queue, now["sockets"])),
        tuple(_peers(before, now, gain)),
    )


def _seconds_between(
    before: StatusDocument | None, now: StatusDocument
) -> float | None:
    """By the daemon's clock, which no slow answer can bend; None if it is another
    daemon, and nothing can be compared."""
    seconds = now["uptime"] - before["uptime"] if before else 0.0
    return seconds if seconds > 0 else None


class _Gain:
    """How counters have grown."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def rate(self, before: int, now: int) -> float | None:
        """A second."""
        if self._seconds is None:
            return None
        return _grown(before, now) / self._seconds

    def mean(self, packets: tuple[int, int], things: tuple[int, int]) -> float | None:
        """Packets for each thing, of what came between."""
        count = _grown(*things)
        if self._seconds is None or not count:
            return None
        return _grown(*packets) / count


def _grown(before: int, now: int) -> int:
    return now - before if now >= before else now


def _both(
    before: StatusDocument | None, now: StatusDocument
) -> Iterator[tuple[str, DirectionDocument, DirectionDocument]]:
    """Each direction's name, and its counters before, if they are known, and now."""
    counters = now["counters"]
    if counters is None:
        return
    earlier = (before and before["counters"]) or counters
    yield "tx", earlier["tx"], counters["tx"]
    yield "rx", earlier["rx"], counters["rx"]


def _directions(
    before: StatusDocument | None,
    now: StatusDocument,
    gain: _Gain,
    losses: Sequence[Loss],
) -> Iterator[Direction]:
    for name, old, new in _both(before, now):
        bits = gain.rate(old["bytes"] * 8, new["bytes"] * 8)
        packets = (old["packets"], new["packets"])
        calls = (_calls(old), _calls(new))
        lost = [loss.rate for loss in losses if loss.direction == name]
        yield Direction(
            name=name,
            packets=new["packets"],
            bytes=new["bytes"],
            bits_rate=bits,
            packets_rate=gain.rate(*packets),
            burst=gain.mean(packets, (old["messages"], new["messages"])),
            frame=gain.mean(packets, (old["frames"], new["frames"])),
            call=gain.mean(packets, calls),
            pumps_rate=gain.rate(old["pumps"], new["pumps"]),
            drops_rate=None if bits is None else sum(filter(None, lost)),
        )


def _calls(direction: DirectionDocument) -> int:
    return direction["tun_calls"] + direction["wire_calls"]


def _losses(
    before: StatusDocument | None, now: StatusDocument, gain: _Gain
) -> Iterator[Loss]:
    for name, old, new in _both(before, now):
        for reason, total in new["drops"].items():
            if total:
                earlier = old["drops"].get(reason, 0)
                yield Loss(name, reason, gain.rate(earlier, total), total)
    for name, reason, count in (
        ("rx", SOCKET_FULL, _socket_drops),
        ("tx", TUN_FULL, _tun_drops),
    ):
        if total := count(now):
            earlier = count(before) if before else 0
            yield Loss(name, reason, gain.rate(earlier, total), total)


def _socket_drops(status: StatusDocument) -> int:
    return sum(socket["rx_drops"] for socket in status["sockets"])


def _tun_drops(status: StatusDocument) -> int:
    return status["tun_drops"] or 0


def _fastest_first(loss: Loss) -> tuple[float, int, str, str]:
    return -(loss.rate or 0.0), -loss.total, loss.direction, loss.reason


def _queue(socket: SocketDocument) -> Queue:
    room = socket["rx_room"]
    fill = socket["rx_bytes"] / room if room else 0.0
    return Queue(socket["queue"], socket["version"], fill)


def _peers(
    before: StatusDocument | None, now: StatusDocument, gain: _Gain
) -> Iterator[Peer]:
    earlier = {peer["address"]: peer for peer in before["peers"]} if before else {}
    for peer in now["peers"]:
        yield _peer(earlier.get(peer["address"]), peer, gain)


def _peer(old: PeerDocument | None, new: PeerDocument, gain: _Gain) -> Peer:
    """One that was no peer before has all its counters from the time since."""
    tx, rx = new["tx"], new["rx"]
    old_tx = old["tx"] if old else {"packets": 0, "bytes": 0}
    old_rx = old["rx"] if old else {"packets": 0, "bytes": 0}
    return Peer(
        address=new["address"],
        subnets=tuple(new["subnets"]),
        tx_bits=gain.rate(old_tx["bytes"] * 8, tx["bytes"] * 8),
        tx_packets=gain.rate(old_tx["packets"], tx["packets"]),
        rx_bits=gain.rate(old_rx["bytes"] * 8, rx["bytes"] * 8),
        rx_packets=gain.rate(old_rx["packets"], rx["packets"]),
        tx_bytes=tx["bytes"],
        rx_bytes=rx["bytes"],
        idle=new["idle"],
    )


# ---- the order of peers --------------------------------------------------------------

_Key: TypeAlias = tuple[int, int] | float | None


class Column(Enum):
    """What peers can be sorted by, in the order of the columns."""

    PEER = "peer"
    SUBNET = "subnet"
    TX_BITS = "tx_bits"
    TX_PACKETS = "tx_packets"
    TX_BYTES = "tx_bytes"
    RX_BITS = "rx_bits"
    RX_PACKETS = "rx_packets"
    RX_BYTES = "rx_bytes"
    IDLE = "idle"

    @property
    def falling(self) -> bool:
        """Does the largest come first, unless reversed? It does, of traffic."""
        return self not in (Column.PEER, Column.SUBNET, Column.IDLE)


def in_order(peers: Sequence[Peer], by: Column, reverse: bool) -> list[Peer]:
    """Sorted by that column, and by address where it is equal. What is not known comes
    last, in either direction."""
    key = _KEYS[by]
    known = [peer for peer in peers if key(peer) is not None]
    unknown = [peer for peer in peers if key(peer) is None]
    known.sort(key=_by_address)
    unknown.sort(key=_by_address)
    known.sort(key=key, reverse=by.falling != reverse)  # type: ignore[arg-type]
    return known + unknown


def _by_address(peer: Peer) -> tuple[int, int]:
    return _number(peer.address)


def _by_subnet(peer: Peer) -> tuple[int, int] | None:
    return _number(peer.subnets[0].partition("/")[0]) if peer.subnets else None


@lru_cache(1 << 14)
def _number(text: str) -> tuple[int, int]:
    """An address as something to sort by: IPv4 first. What is none comes before."""
    try:
        address = ip_address(text)
    except ValueError:
        return 0, 0
    return address.version, int(address)


_KEYS: dict[Column, Callable[[Peer], _Key]] = {
    column: attrgetter(column.value) for column in Column
} | {Column.PEER: _by_address, Column.SUBNET: _by_subnet}
