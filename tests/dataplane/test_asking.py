"""Asking other hosts, who here are sockets of ours on loopback."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, strategies as st

from flannelette.dataplane import asking
from flannelette.dataplane.asking import Answer, Question
from tests.helpers.ns import needs_namespaces
from tests.helpers.probes import answer

HERE, HERE6 = IPv4Address("127.0.0.1"), IPv6Address("::1")
HOSTS = [HERE, HERE6]
STOP = b"stop"

Reply = Callable[[bytes], bytes | None]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback needs no half seconds."""
    monkeypatch.setattr(asking, "PATIENCE", 0.1)


@contextmanager
def answering(host: asking.Address, reply: Reply) -> Iterator[int]:
    """A node's port, where every datagram gets what reply makes of it."""
    family = socket.AF_INET if host.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((str(host), 0))

        def serve() -> None:
            while (got := sock.recvfrom(65536))[0] != STOP:
                told = reply(got[0])
                if told is not None:
                    sock.sendto(told, got[1])

        thread = threading.Thread(target=serve)
        thread.start()
        yield sock.getsockname()[1]
        with socket.socket(family, socket.SOCK_DGRAM) as ender:
            ender.sendto(STOP, sock.getsockname())
        thread.join()


def known(datagram: bytes) -> bytes | None:
    return answer(datagram, True)


@pytest.mark.parametrize("host", HOSTS)
def test_answers_silence_and_refusals_are_told_apart(host: asking.Address) -> None:
    with (
        answering(host, known) as friend,
        answering(host, lambda d: answer(d, False)) as stranger,
        answering(host, lambda _: None) as silent,
    ):
        with answering(host, known) as gone:
            pass
        ports = (friend, gone, stranger, silent)
        asked = [Question(host, port, size) for port in ports for size in (28, 1400)]
        outcomes = asking.probes(asked, host)
        assert list(outcomes) == asked
        for question in asked:
            outcome = outcomes[question]
            if question.port == silent:
                assert outcome is None
            elif question.port == gone:
                assert isinstance(outcome, OSError)
                assert outcome.errno == errno.ECONNREFUSED
            else:
                assert isinstance(outcome, Answer)
                assert outcome.known is (question.port == friend)
                assert 0 <= outcome.seconds < 60


def test_a_lost_question_is_repeated() -> None:
    seen: list[bytes] = []

    def second_time(datagram: bytes) -> bytes | None:
        seen.append(datagram)
        return known(datagram) if len(seen) == 2 else None

    with answering(HERE, second_time) as port:
        question = Question(HERE, port, 28)
        assert isinstance(asking.probes([question])[question], Answer)


@given(st.binary(max_size=60))
def test_whatever_comes_back_is_no_answer(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch, answering(HERE, lambda _: data) as port:
        patch.setattr(asking, "PATIENCE", 0.001)
        question = Question(HERE, port, 28)
        assert asking.probes([question])[question] is None


def test_an_answer_counts_from_whom_it_was_asked_of() -> None:
    """Somebody else may have seen the question, and has no say."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((str(HERE), 0))

        def tell_on(datagram: bytes) -> None:
            """Not to be answered from here: the other one does."""
            told = known(datagram)
            assert told is not None
            other.sendto(told, (str(HERE), asker))

        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free,
            answering(HERE, tell_on) as port,
        ):
            free.bind((str(HERE), 0))
            asker = free.getsockname()[1]
            free.close()
            bound = partial(_bound_to, asker)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(asking._Probes, "socket", bound)
                question = Question(HERE, port, 28)
                assert asking.probes([question])[question] is None


def _bound_to(port: int, version: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((str(HERE), port))
    return sock


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("passes", [28, 900])
def test_the_largest_size_that_passes(host: asking.Address, passes: int) -> None:
    def narrow(datagram: bytes) -> bytes | None:
        return known(datagram) if len(datagram) <= passes else None

    with answering(host, narrow) as port:
        assert asking.largest_passing(Question(host, port, 1400), 28) == passes


@given(st.integers(28, 65507), st.integers(2, 65507))
def test_sizes_close_in(low: int, distance: int) -> None:
    high = low + distance
    sizes = asking.sizes_between(low, high)
    assert sizes == sorted(set(sizes))
    assert 1 <= len(sizes) <= asking.SIZES_AT_ONCE
    assert low < sizes[0]
    assert sizes[-1] < high
    widest = max(b - a for a, b in zip([low, *sizes], [*sizes, high], strict=True))
    assert widest <= distance // asking.SIZES_AT_ONCE + 1


@needs_namespaces
@pytest.mark.parametrize("host", HOSTS)
def test_echoes_of_this_very_host(host: asking.Address) -> None:
    asked = [Question(host, 0, size) for size in (52, 53, 1472)]
    assert all(isinstance(o, Answer) for o in asking.echoes(asked).values())


@needs_namespaces
def test_nobody_echoes() -> None:
    question = Question(IPv4Address("255.255.255.255"), 0, 60)
    outcome = asking.echoes([question])[question]
    assert isinstance(outcome, PermissionError), "broadcasts are refused"
