"""From the forwarder's rings to an observer's events."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flannelette.control.errors import HostError
from flannelette.control.observe import observer as observer_module, watching
from flannelette.control.observe.events import BadEvents, Event
from flannelette.control.observe.observer import Observer, observe, until_signalled
from flannelette.control.observe.protocol import HEADER
from flannelette.control.operator import client, server
from flannelette.dataplane.forwarder import Direction, EventKind, Watch
from tests.helpers.eventrecords import encode, event, rx, tx
from tests.helpers.ns import until
from tests.helpers.watched import (
    GOOD,
    OWN,
    FakeForwarder,
    strange_daemon,
    watched_daemon,
)

WATCH = Watch(((6, 0, 0, 65535),), 128, 0b11)


def heard(observer: Observer, count: int) -> list[Event]:
    """So many events, and then no more."""
    events: list[Event] = []
    for found in observer.rounds():
        events += found
        if len(events) >= count:
            observer.finish()
    return events


def test_an_observer_hears_all_in_the_order_of_time(path: Path) -> None:
    first = [*tx(b"one"), *rx(b"two", after=1)]
    second = [each._replace(queue=1) for each in tx(b"three", after=20)]
    fake = FakeForwarder(first, [], second)
    with watched_daemon(path, fake), observe(path, WATCH) as observer:
        assert fake.watches == [WATCH]
        assert observer.own == OWN
        events = heard(observer, 12)
        until(lambda: fake.unwatched == 1)
    assert sorted(events) == sorted(first + second)
    assert [each.time for each in events] == sorted(each.time for each in events)
    assert observer.lost == 0


def test_lost_events_are_told_even_alone(path: Path) -> None:
    fake = FakeForwarder()
    with watched_daemon(path, fake), observe(path, WATCH) as observer:
        fake.lost = {(0, Direction.TX): 3, (1, Direction.RX): 4}
        for events in observer.rounds():
            assert events == []
            observer.finish()
    assert observer.lost == 7


def test_lost_events_are_told_once(path: Path) -> None:
    fake = FakeForwarder(*[[]] * 10, tx(b"end"))
    fake.lost = {(0, Direction.TX): 3}
    with watched_daemon(path, fake), observe(path, WATCH) as observer:
        rounds = observer.rounds()
        assert [len(next(rounds)) for _ in range(2)] == [0, 4]


def test_silence_may_last(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For far longer than the deadline of an exchange."""
    monkeypatch.setattr(client, "DEADLINE", 0.1)
    monkeypatch.setattr(server, "DEADLINE", 0.1)
    fake = FakeForwarder(*[[]] * 20, tx(b"end"))
    with watched_daemon(path, fake), observe(path, WATCH) as observer:
        assert len(next(observer.rounds())) == 4


def test_an_observer_is_told_of_silence(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer_module, "SILENCE", 0.001)
    with watched_daemon(path, FakeForwarder()), observe(path, WATCH) as observer:
        rounds = observer.rounds()
        assert [next(rounds) for _ in range(3)] == [[], [], []]
        observer.finish()
        assert [each for each in rounds if each] == []


def test_what_the_rings_still_hold_at_the_end_is_told(path: Path) -> None:
    """Also while a slow observer holds up the rounds."""
    packet = bytes(60_000)
    rounds = [[event(EventKind.READ, number, data=packet)] for number in range(24)]
    fake = FakeForwarder(*rounds)
    with watched_daemon(path, fake), observe(path, WATCH) as observer:
        until(lambda: len(fake.rounds) <= 20)
        observer.finish()
        told = [each.number for events in observer.rounds() for each in events]
    assert len(told) >= 24 - 20 + 8
    assert told == list(range(len(told)))


def test_what_came_before_the_end_is_still_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PERIOD", 60.0)
    fake = FakeForwarder(tx(b"late"))
    with watched_daemon(path, fake), observe(path, WATCH) as observer:
        observer.finish()
        assert [len(events) for events in observer.rounds()] == [4]


def test_an_observer_that_goes_away_ends_the_watching(path: Path) -> None:
    fake = FakeForwarder()
    with watched_daemon(path, fake):
        with observe(path, WATCH):
            pass
        until(lambda: fake.unwatched == 1)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EBUSY, "answers: somebody watches already"),
        (errno.EINVAL, "answers: the filter is no program"),
        (errno.ENOTSUP, "answers: what runs with --datapath=python cannot be watched"),
        (errno.ENOMEM, r"answers: \[Errno 12\] Cannot allocate memory"),
    ],
)
def test_a_refusal_is_one_line(path: Path, number: int, said: str) -> None:
    fake = FakeForwarder()
    fake.refusal = OSError(number, os.strerror(number))
    with (
        watched_daemon(path, fake),
        pytest.raises(HostError, match=said),
        observe(path, WATCH),
    ):
        pass
    assert fake.unwatched == 0


@pytest.mark.parametrize(
    "request_",
    [
        "watch",
        "watch {}",
        'watch {"filter":[[1,2,3]],"snap":1,"kinds":1}',
        'watch {"filter":[[1,2,3,4294967296]],"snap":1,"kinds":1}',
        'watch {"filter":[],"snap":-1,"kinds":1}',
        'watch {"filter":[],"snap":1,"kinds":1,"more":1}',
    ],
)
def test_a_wrong_request_is_refused(path: Path, request_: str) -> None:
    fake = FakeForwarder()
    with watched_daemon(path, fake), pytest.raises(HostError, match="not understood"):
        client.ask(path, request_)
    assert fake.watches == []


def test_the_longest_filter_fits_into_a_request(path: Path) -> None:
    fake = FakeForwarder()
    most = ((0xFFFF, 0xFF, 0xFF, 0xFFFFFFFF),) * 4096
    with watched_daemon(path, fake), observe(path, Watch(most)):
        assert fake.watches == [Watch(most)]


def test_a_slow_observer_holds_up_the_rounds_only(path: Path) -> None:
    """Nothing is taken from the rings that nobody would hear."""
    packet = bytes(60_000)
    rounds = [[event(EventKind.READ, number, data=packet)] for number in range(50)]
    fake = FakeForwarder(*rounds)
    with watched_daemon(path, fake), observe(path, WATCH) as observer:
        until(lambda: len(fake.rounds) < 50)
        before = -1
        while before != len(fake.rounds):
            before = len(fake.rounds)
            threading.Event().wait(5 * watching.PERIOD)
        assert before > 20
        assert [each.number for each in heard(observer, 50)] == list(range(50))


# ---- daemons that are not ours -------------------------------------------------------


RECORDS = encode(tx(b"one"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "is no flannelette"),
        (b"hello\n", "is no flannelette"),
        (b'{"error": "unknown command"}\n', "answers: unknown command"),
        (b"{}\n", "answer is not understood"),
        (GOOD, "has ended the watching"),
        (GOOD + HEADER.pack(0, 0, 0, 100, 0), "has ended the watching"),
        (GOOD + HEADER.pack(0, 0, 0, 100, 0)[:5], "has ended the watching"),
        (GOOD + HEADER.pack(0, 0, 0, 1 << 31, 0), "is not believed"),
        (GOOD + HEADER.pack(0, 0, 0, 16, 0) + bytes(16), "event is not understood"),
    ],
)
def test_a_strange_answer_is_one_line(path: Path, answer: bytes, said: str) -> None:
    with (
        strange_daemon(path, answer),
        pytest.raises(HostError, match=said),
        observe(path, WATCH) as observer,
    ):
        heard(observer, 1)


def test_events_before_the_daemons_end_are_heard(path: Path) -> None:
    """Also those of a round that is not whole."""
    answer = GOOD + HEADER.pack(0, 0, 1, len(RECORDS), 2) + RECORDS
    with strange_daemon(path, answer), observe(path, WATCH) as observer:
        rounds = observer.rounds()
        assert len(next(rounds)) == 4
        with pytest.raises(HostError, match="has ended the watching"):
            next(rounds)
        assert observer.lost == 2


def test_no_daemon_is_one_line(path: Path) -> None:
    with pytest.raises(HostError, match="no daemon answers at"), observe(path, WATCH):
        pass


def test_a_bad_chunk_is_of_the_documented_kind(path: Path) -> None:
    with (
        strange_daemon(path, GOOD + HEADER.pack(0, 0, 0, 8, 0) + bytes(8)),
        observe(path, WATCH) as observer,
        pytest.raises(BadEvents),
    ):
        heard(observer, 1)


# ---- signals -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_acts_and_the_second_is_as_ever(number: int) -> None:
    calls: list[int] = []
    before = signal.getsignal(number)
    with until_signalled(lambda: calls.append(1)):
        assert signal.getsignal(number) != before
        signal.raise_signal(number)
        assert calls == [1]
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_handlers_are_put_back_without_a_signal(number: int) -> None:
    before: Callable[..., object] | int | None = signal.getsignal(number)
    with until_signalled(lambda: None):
        pass
    assert signal.getsignal(number) == before
