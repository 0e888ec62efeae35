"""`flannelette capture`: packets on both sides of the daemon, as a pcapng file.

Two interfaces: the TUN, where packets are read and written, and the underlay, where
datagrams are sent and received. Of a datagram the fast path has the payload. The IP and
UDP header before it are made here: addresses and ports are true but for the port that
VXLAN sends from, which is another one for each flow; the rest is not known.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import BinaryIO

from flannelette.control.arguments import Parser, count, operator_socket
from flannelette.control.config import version
from flannelette.control.errors import ConfigError, HostError
from flannelette.control.observe import pcapng
from flannelette.control.observe.dissect import compile_filter
from flannelette.control.observe.events import Event
from flannelette.control.observe.observer import Observer, observe, until_signalled
from flannelette.control.observe.protocol import Own
from flannelette.control.text import plural
from flannelette.dataplane.forwarder import Direction, EventKind, Watch

SNAP = 1 << 18
"""Bytes of a packet that are kept: all, unless told otherwise."""
KINDS = (
    EventKind.READ,
    EventKind.SENT,
    EventKind.RECEIVED,
    EventKind.WRITTEN,
    EventKind.DROPPED,
)
"""Those that have bytes."""
_INNER, _OUTER = 0, 1
_FLOWS = {Direction.TX: pcapng.Flow.OUT, Direction.RX: pcapng.Flow.IN}
_HOPS = 64


def main(argv: Sequence[str]) -> int:
    """Raises ConfigError for a wrong filter, HostError, OSError."""
    parser = Parser(
        "capture",
        "Write the packets that pass the daemon as pcapng: those inside of the overlay "
        "(interface: the TUN), the datagrams that carry them (interface: underlay), "
        "and what is dropped, with the reason as a comment. Ctrl-C ends it.",
    )
    parser.add_argument("-w", dest="file", required=True, metavar="FILE|-")
    parser.add_argument(
        "--snap",
        type=count,
        default=SNAP,
        metavar="N",
        help="keep at most so many bytes of each packet; all unless told",
    )
    parser.add_argument(
        "--count",
        type=count,
        default=0,
        metavar="N",
        help="end after so many packets; 0, the default: no end",
    )
    parser.add_operator_socket()
    parser.add_filter()
    wanted = parser.parsed(argv)
    if wanted is None:
        return 0
    if wanted.file == "-" and sys.stdout.isatty():
        raise ConfigError("a capture is not for a terminal to show: -w FILE")
    text = " ".join(wanted.filter)
    kinds = sum(1 << kind for kind in KINDS)
    watch = Watch(compile_filter(text, "capture"), min(wanted.snap, SNAP), kinds)
    with (
        observe(operator_socket(wanted, os.environ), watch) as observer,
        _opened(wanted.file) as file,
        until_signalled(observer.finish),
    ):
        _capture(observer, file, wanted.count, watch.snap, text)
    return 0


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """The file to write, whose errors say its name; - is stdout."""
    try:
        if name == "-":
            yield sys.stdout.buffer
        else:
            with Path(name).open("wb") as file:
                yield file
    except OSError as error:
        if error.filename is None and not isinstance(error, BrokenPipeError):
            error.add_note(f"while writing {name}")
        raise


def _capture(
    observer: Observer, file: BinaryIO, wanted: int, snap: int, expression: str
) -> None:
    """Write packets until there were enough, or the observer has finished."""
    own, written, ended = observer.own, 0, None
    file.write(_beginning(own, snap, expression))
    file.flush()
    print(f"watching {own.device}; Ctrl-C ends it", file=sys.stderr, flush=True)
    try:
        for events in observer.rounds():
            if wanted:
                events = events[: wanted - written]
            file.writelines(block(event, own) for event in events)
            file.flush()
            written += len(events)
            if written == wanted > 0:
                break
    except HostError as error:
        ended = error
    lost = observer.lost
    comment = "events lost, of both interfaces, since this capture read too slowly"
    file.write(pcapng.statistics(_INNER, time.time_ns(), lost, comment))
    file.flush()
    told = f"{plural(written, 'packet')} written, {plural(lost, 'event')} lost"
    print(told, file=sys.stderr)
    inside = f"udp.port=={own.port},{'vxlan' if own.vxlan else 'ip'}"
    print(f"to look into the datagrams: tshark -d {inside} -r FILE", file=sys.stderr)
    if ended is not None:
        raise ended


def _beginning(own: Own, snap: int, expression: str) -> bytes:
    inner = f"packets of the overlay, MTU {own.mtu}"
    outer = f"datagrams between nodes, UDP port {own.port}"
    return b"".join(
        [
            pcapng.section(f"flannelette {version()}"),
            pcapng.interface(own.device, inner, snap, expression),
            pcapng.interface("underlay", outer, snap, expression),
        ]
    )


def block(event: Event, own: Own) -> bytes:
    """The packet of an event that carries bytes."""
    data, length = event.data, event.length
    if event.outer:
        headers = outer_headers(event, own)
        data, length = headers + data, len(headers) + length
    return pcapng.packet(
        interface=_OUTER if event.outer else _INNER,
        time=event.time,
        data=data,
        length=length,
        flow=_FLOWS[event.direction],
        queue=event.queue,
        identity=event.queue << 33 | event.direction << 32 | event.number,
        comment=_comment(event),
    )


def _comment(event: Event) -> str:
    if event.drop is None:
        return ""
    packets = f", {event.packets} packets" if event.packets > 1 else ""
    return f"dropped: {event.drop.label}{packets}"


def outer_headers(event: Event, own: Own) -> bytes:
    """An IP header (RFC 791, RFC 8200) and a UDP header (RFC 768) for a datagram.

    UDP's checksum is 0, which says that there is none, unless IPv6 wants one and the
    datagram's bytes are all there."""
    peer = event.peer or IPv4Address(0)
    ends = [(_own_address(own, peer.version), own.port), (peer, event.port)]
    if event.direction == Direction.RX:
        ends.reverse()
    (source, source_port), (destination, port) = ends
    addresses = source.packed + destination.packed
    length = 8 + min(event.length, 65535 - 28)
    udp = struct.pack(">HHHH", source_port, port, length, 0)
    if peer.version == 4:
        head = struct.pack(
            ">BBHHHBBH", 0x45, 0, 20 + length, 0, 0, _HOPS, socket.IPPROTO_UDP, 0
        )
        checksum = _checksum(head + addresses)
        return head[:10] + struct.pack(">H", checksum) + addresses + udp
    if event.length == len(event.data):
        pseudo = addresses + struct.pack(">II", length, socket.IPPROTO_UDP)
        checksum = _checksum(pseudo + udp + event.data) or 0xFFFF
        udp = udp[:6] + struct.pack(">H", checksum)
    head = struct.pack(">IHBB", 6 << 28, length, socket.IPPROTO_UDP, _HOPS)
    return head + addresses + udp


def _own_address(own: Own, version: int) -> IPv4Address | IPv6Address:
    return _address(own.address if version == 4 else own.address6 or "::")


_address = cache(ip_address)


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
