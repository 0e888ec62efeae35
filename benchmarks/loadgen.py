"""A process that makes traffic, or takes it: python -m flannelette.benchmarks.loadgen

It reads commands from stdin, one JSON document a line, and answers each by a line. Its
sockets are opened inside the namespaces that a command names, so one sender and one
receiver serve every rig. It ends when stdin does, and each command by itself.

    {"do": "ping", "ns": ..., "to": address, "seconds": s, "every": s}
        -> {"rtts": [seconds, ...], "lost": n}
    {"do": "receive", "ns": ..., "address": ..., "size": bytes, "seconds": at most}
        -> {"port": n}, and after {"do": "stop"} -> {"packets": n}
    {"do": "send", "ns": ..., "to": address, "port": n, "size": bytes,
     "rate": packets/s, "seconds": s, "segments": packets in a message}
        -> {"packets": n, "seconds": s}

A sender is paced: every TICK it sends what is due by then, by as few sendmmsg calls as
that takes. With segments > 1 a message is a superpacket that the kernel cuts
(UDP_SEGMENT), as QUIC senders do it. A receiver empties its large buffer every NAP: to
be woken up for every packet would cost more than the packet, and would be billed to
whoever delivers it.
"""

from __future__ import annotations

import ctypes
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flannelette.benchmarks.mmsg import UDP_GRO, UDP_SEGMENT, Messages, enlarge
from flannelette.benchmarks.netns import inside
from flannelette.benchmarks.traffic import echo_request, is_answer

TICK = 50e-6
"""Seconds that a sender sleeps at least; longer when nothing is due."""
CATCH_UP = 1e-3
"""A sender that was kept from its processor makes up for so many seconds, by a burst,
and forgets the rest: what it really sent is in its answer."""
NAP = 1e-3
MOST_MESSAGES = 64
"""In a call of sendmmsg."""
RECEIVE_BUFFER = 32 << 20
QUIET = 0.05
"""Seconds without a packet, after the sender's end, that tell there are no more."""
PING_PATIENCE = 1.0
_SO_TIMESTAMPNS = 35
_PR_SET_TIMERSLACK = 29


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # sleeps as short as asked
    for line in sys.stdin:
        command = json.loads(line)
        _answer(_COMMANDS[command.pop("do")](**command))


def _answer(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


# ---- echoes --------------------------------------------------------------------------


def _ping(ns: str, to: str, seconds: float, every: float) -> dict[str, Any]:
    """One echo after the other. The kernel's stamp tells when an answer arrived, so our
    own wake-up is not part of the delay."""
    rtts, lost = [], 0
    with inside(ns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.settimeout(PING_PATIENCE)
        sock.connect((to, 0))
        ident, end = id(sock) & 0xFFFF, time.monotonic() + seconds
        sequence, following = 0, time.monotonic()
        while time.monotonic() < end:
            rtt = _echo(sock, ident, sequence & 0xFFFF)
            if rtt is None:
                lost += 1
            else:
                rtts.append(rtt)
            sequence, following = sequence + 1, following + every
            time.sleep(max(every / 4, following - time.monotonic()))
    return {"rtts": rtts, "lost": lost}


def _echo(sock: socket.socket, ident: int, sequence: int) -> float | None:
    """Seconds; None without an answer."""
    request, end = echo_request(ident, sequence), time.monotonic() + PING_PATIENCE
    started = time.time_ns()
    sock.send(request)
    with suppress(TimeoutError):
        while time.monotonic() < end:
            packet, stamps, _, _ = sock.recvmsg(2048, 64)
            if is_answer(packet, ident, sequence):
                (_, _, stamp) = stamps[0]
                whole, part = struct.unpack("@ll", stamp)
                return (int(whole) * 10**9 + int(part) - started) / 1e9
    return None


# ---- datagrams -----------------------------------------------------------------------


def _send(
    ns: str, to: str, port: int, size: int, rate: float, seconds: float, segments: int
) -> dict[str, Any]:
    with inside(ns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        if segments > 1:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        sock.connect((to, port))
        messages = Messages(MOST_MESSAGES, size * segments)
        interval, sent = segments / rate, 0
        started = following = time.perf_counter()
        end = started + seconds
        while (now := time.perf_counter()) < end:
            following = max(following, now - CATCH_UP)
            due = 1 + int((now - following) / interval) if now >= following else 0
            following += due * interval
            while due > 0:
                went = messages.send(sock, min(due, MOST_MESSAGES))
                sent, due = sent + went, due - went
            time.sleep(max(TICK, following - time.perf_counter()))
        return {"packets": sent * segments, "seconds": time.perf_counter() - started}


def _receive(ns: str, address: str, size: int, seconds: float) -> dict[str, Any]:
    with inside(ns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        granted = enlarge(sock, RECEIVE_BUFFER)
        room = 65536 if size > 1000 else size
        if room > size:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        sock.bind((address, 0))
        _answer({"port": sock.getsockname()[1]})
        nap = min(NAP, granted / 2e9)
        received = _count(
            sock, Messages(256 if room == size else 16, room), nap, seconds
        )
    return {"packets": received // size}


def _count(sock: socket.socket, messages: Messages, nap: float, seconds: float) -> int:
    """Bytes received until it is quiet after a line on stdin, or time is up."""
    received, end, quiet_at = 0, time.monotonic() + seconds, 0.0
    while (now := time.monotonic()) < end:
        if lengths := messages.receive(sock):
            received += sum(lengths)
            quiet_at = now + QUIET
        else:
            if now > quiet_at and select.select([sys.stdin], [], [], 0)[0]:
                break
            time.sleep(nap)
    sys.stdin.readline()
    return received


_COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "ping": _ping,
    "receive": _receive,
    "send": _send,
}

if __name__ == "__main__":
    main()
