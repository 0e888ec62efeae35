"""Ask other hosts whether they are there, and which sizes reach them. Blocks.

Two questions: a probe (encap/probe.py) to the port where a node of ours listens, and
ICMP's echo request (RFC 792, RFC 4443), which every host's kernel answers. Both leave
with Don't Fragment set, and whatever was learnt of the path before is not believed: a
size passes or it does not.

One socket of an IP version asks all hosts. Its error queue tells who refused (ip(7),
IP_RECVERR): an ICMP error on an unconnected socket names nobody else.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, Protocol

from flannelette.encap import ip, probe

Address = IPv4Address | IPv6Address

TRIES = 2
PATIENCE = 0.5
"""Seconds that each try waits for its last answer."""
_BATCH = 128
"""Questions under way at once."""
_PROBE_PMTU = 3  # IP_PMTUDISC_PROBE, and IPv6's
_MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
_RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_ECHO = struct.Struct("!BBHHHI")
_ECHO_TYPES = {4: (8, 0), 6: (128, 129)}
_IP_HEADERS = {4: 20, 6: 40}


class Question(NamedTuple):
    address: Address
    port: int
    """Of a probe; 0 for an echo request."""
    size: int
    """Bytes: of a probe, from probe.BYTES; of the echo request's whole IP packet, from
    52 on."""


@dataclass(frozen=True, slots=True)
class Answer:
    seconds: float
    """Between the question, or its last repetition, and the answer."""
    known: bool = False
    """Of a probe: it came from an address that is a peer's there."""


Outcome = Answer | OSError | None
"""An answer; who refused it, with the errno of an ICMP error or of our own kernel's
refusal to send it; or silence."""
Outcomes = dict[Question, Outcome]


def probes(questions: Iterable[Question], source: Address | None = None) -> Outcomes:
    """What became of each probe; they come from that address, at a port of their own.

    Raises OSError when there can be no such socket."""
    return _ask(_Probes(), questions, source)


def echoes(questions: Iterable[Question], source: Address | None = None) -> Outcomes:
    """What became of each echo request. Raises OSError; without CAP_NET_RAW, EPERM."""
    return _ask(_Echoes(), questions, source)


class _Kind(Protocol):
    """A protocol to ask in. A token tells which question an answer is for."""

    def socket(self, version: int) -> socket.socket: ...

    def request(self, question: Question, token: int) -> bytes: ...

    def reply(self, data: bytes, version: int) -> tuple[int, bool] | None:
        """Token and `known`; None if it is no reply to us."""

    def echoed(self, data: bytes) -> int | None:
        """The token of a request of ours that an error gives back."""


class _Probes:
    def __init__(self) -> None:
        self._secret = os.urandom(probe.NONCE - 2)

    def socket(self, version: int) -> socket.socket:
        return socket.socket(_FAMILIES[version], socket.SOCK_DGRAM)

    def request(self, question: Question, token: int) -> bytes:
        return probe.request(self._secret + token.to_bytes(2), question.size)

    def reply(self, data: bytes, version: int) -> tuple[int, bool] | None:
        found = self._parse(data)
        if found is None or found.kind != probe.Kind.REPLY:
            return None
        return int.from_bytes(found.nonce[-2:]), found.known

    def echoed(self, data: bytes) -> int | None:
        found = self._parse(data)
        return found and int.from_bytes(found.nonce[-2:])

    def _parse(self, data: bytes) -> probe.Probe | None:
        with suppress(probe.NoProbe):
            found = probe.parse(data)
            if found.nonce[:-2] == self._secret:
                return found
        return None


class _Echoes:
    def __init__(self) -> None:
        self._ident, self._secret = struct.unpack("=HI", os.urandom(6))

    def socket(self, version: int) -> socket.socket:
        protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
        return socket.socket(_FAMILIES[version], socket.SOCK_RAW, protocol)

    def request(self, question: Question, token: int) -> bytes:
        version = question.address.version
        kind, _ = _ECHO_TYPES[version]
        fields = (self._ident, token, self._secret)
        length = question.size - _IP_HEADERS[version]
        message = _ECHO.pack(kind, 0, 0, *fields).ljust(length, b"\0")
        # The kernel writes that of ICMPv6, and over whatever is there.
        return message[:2] + struct.pack("!H", ip.checksum(message)) + message[4:]

    def reply(self, data: bytes, version: int) -> tuple[int, bool] | None:
        if version == 4 and data:  # IPv4's raw sockets give its header, too
            data = data[(data[0] & 0xF) * 4 :]
        token = self.echoed(data)
        if token is None or data[0] != _ECHO_TYPES[version][1]:
            return None
        return token, False

    def echoed(self, data: bytes) -> int | None:
        if len(data) < _ECHO.size:
            return None
        _, _, _, ident, token, secret = _ECHO.unpack_from(data)
        return token if (ident, secret) == (self._ident, self._secret) else None


def _ask(
    kind: _Kind, questions: Iterable[Question], source: Address | None
) -> Outcomes:
    asked = list(dict.fromkeys(questions))
    outcomes: Outcomes = dict.fromkeys(asked)
    for version in (4, 6):
        those = [each for each in asked if each.address.version == version]
        if not those:
            continue
        with kind.socket(version) as sock:
            sock.setblocking(False)
            sock.setsockopt(*_MTU_DISCOVER[version], _PROBE_PMTU)
            sock.setsockopt(*_RECVERR[version], 1)
            if source is not None and source.version == version:
                sock.bind((str(source), 0))
            for start in range(0, len(those), _BATCH):
                asking = _Asking(kind, sock, version, those[start : start + _BATCH])
                outcomes |= asking.outcomes()
    return outcomes


class _Asking:
    """Some questions by one socket; a token is a question's place among them."""

    def __init__(
        self,
        kind: _Kind,
        sock: socket.socket,
        version: int,
        questions: Sequence[Question],
    ) -> None:
        self._kind = kind
        self._sock = sock
        self._version = version
        self._questions = questions
        self._sent = [0.0] * len(questions)
        self._outcomes: dict[int, Outcome] = {}

    def outcomes(self) -> Outcomes:
        for _ in range(TRIES):
            for token in self._open():
                self._send(token)
            deadline = time.monotonic() + PATIENCE
            while self._open() and (rest := deadline - time.monotonic()) > 0:
                if select.select([self._sock], [], [], rest)[0]:
                    self._receive()
        return {
            question: self._outcomes.get(token)
            for token, question in enumerate(self._questions)
        }

    def _open(self) -> Collection[int]:
        return [n for n in range(len(self._questions)) if n not in self._outcomes]

    def _send(self, token: int) -> None:
        question = self._questions[token]
        request = self._kind.request(question, token)
        # An earlier question's error comes out of the next call, whatever that is.
        for last in (False, True):
            self._sent[token] = time.monotonic()
            try:
                self._sock.sendto(request, (str(question.address), question.port))
                return
            except BlockingIOError:  # it is lost, as on the wire
                return
            except OSError as error:
                self._receive_errors()
                if last:
                    self._settle(token, error)

    def _receive(self) -> None:
        """Everything there is."""
        while True:
            try:
                data, sender = self._sock.recvfrom(65536)
            except BlockingIOError:
                break
            except OSError:  # of the error queue, which says more
                self._receive_errors()
                continue
            found = self._kind.reply(data, self._version)
            if found is None or found[0] >= len(self._questions):
                continue
            token, known = found
            if sender[:2] == self._where(token):
                seconds = time.monotonic() - self._sent[token]
                self._settle(token, Answer(seconds, known))
        self._receive_errors()

    def _receive_errors(self) -> None:
        for code, data, where in self._errors():
            token = self._kind.echoed(data)
            if code == errno.EMSGSIZE:
                if token is not None and token < len(self._questions):
                    self._settle(token, OSError(code, os.strerror(code)))
                continue
            for each in self._open():
                if self._where(each) == where:
                    self._settle(each, OSError(code, os.strerror(code)))

    def _errors(self) -> Iterator[tuple[int, bytes, tuple[str, int]]]:
        """Errno, what was sent, and where to."""
        while True:
            try:
                data, extra, _, where = self._sock.recvmsg(
                    65536, 512, socket.MSG_ERRQUEUE
                )
            except OSError:
                return
            for level, name, content in extra:
                if (level, name) == _RECVERR[self._version]:
                    yield _EXTENDED_ERROR.unpack_from(content)[0], data, where[:2]

    def _where(self, token: int) -> tuple[str, int]:
        question = self._questions[token]
        return str(question.address), question.port

    def _settle(self, token: int, outcome: Outcome) -> None:
        self._outcomes.setdefault(token, outcome)


SIZES_AT_ONCE = 16


def largest_passing(
    question: Question, least: int, source: Address | None = None
) -> int:
    """The size of the largest such question that is answered, where one of `least`
    bytes is and this one is not. Raises OSError."""
    ask = probes if question.port else echoes
    low, high = least, question.size
    while high - low > 1:
        sizes = sizes_between(low, high)
        asked = {size: question._replace(size=size) for size in sizes}
        outcomes = ask(asked.values(), source)
        passed = [s for s in sizes if isinstance(outcomes[asked[s]], Answer)]
        low = max([low, *passed])
        high = min([s for s in [*sizes, high] if s > low])
    return low


def sizes_between(low: int, high: int) -> list[int]:
    """Sizes that divide what lies between, ascending: all, if those are few."""
    if high - low - 1 <= SIZES_AT_ONCE:
        return list(range(low + 1, high))
    step = (high - low) / (SIZES_AT_ONCE + 1)
    return [low + int(step * n) for n in range(1, SIZES_AT_ONCE + 1)]
