"""The search for the highest rate without loss, on systems of known capacity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from flannelette.benchmarks.search import (
    MOST_TRIALS,
    RESOLUTION,
    Bracket,
    Trial,
    search,
)

FLOOR = 1e3


class System:
    """Carries what is offered, up to a capacity; the source sends `fastest` at most."""

    def __init__(self, capacity: float, fastest: float = 1e12) -> None:
        self.capacity = capacity
        self.fastest = fastest
        self.rates: list[float] = []

    def __call__(self, rate: float) -> Trial:
        self.rates.append(rate)
        sent = min(rate, self.fastest)
        return Trial(round(sent * 10), round(min(sent, self.capacity) * 10), 10.0)


def test_a_trial() -> None:
    trial = Trial(2000, 1999, 2.0)
    assert trial.loss == pytest.approx(0.0005)
    assert trial.holds
    assert (trial.sent_rate, trial.rate) == (1000, 999.5)
    assert not Trial(1000, 999, 1.0).holds  # one in a thousand is too many
    assert Trial(10, 11, 1.0).loss == 0.0  # the network may duplicate
    assert Trial(0, 0, 1.0).loss == 1.0


@given(st.floats(1.1 * FLOOR, 1e8), st.floats(FLOOR, 1e8))
def test_it_finds_the_capacity(capacity: float, guess: float) -> None:
    system = System(capacity)
    found = search(system, system, guess, FLOOR)
    assert found is not None
    assert capacity / RESOLUTION**1.1 <= found.rate <= capacity * 1.002
    assert len(system.rates) <= MOST_TRIALS


@given(st.floats(2 * FLOOR, 1e7), st.floats(0.93, 1.07))
def test_a_good_guess_is_soon_confirmed(capacity: float, error: float) -> None:
    system = System(capacity)
    search(system, system, capacity * error, FLOOR)
    assert len(system.rates) <= 9


@given(st.floats(2 * FLOOR, 1e6), st.floats(FLOOR, 1e8))
def test_a_source_that_is_too_slow_ends_it(fastest: float, guess: float) -> None:
    system = System(1e12, fastest)
    found = search(system, system, guess, FLOOR)
    assert found is not None
    assert found.rate == pytest.approx(fastest, rel=0.06)
    assert len(system.rates) < MOST_TRIALS / 2


@given(st.floats(0, FLOOR / 2), st.floats(FLOOR, 1e8))
def test_nothing_holds(capacity: float, guess: float) -> None:
    system = System(capacity)
    assert search(system, system, guess, FLOOR) is None
    assert min(system.rates) >= FLOOR


def disturbed(system: System, *losses: float) -> Callable[[float], Trial]:
    """The system's first trials lose a share besides."""
    left = list(losses)

    def attempt(rate: float) -> Trial:
        trial = system(rate)
        share = left.pop(0) if left else 0.0
        return Trial(trial.sent, round(trial.received * (1 - share)), trial.seconds)

    return attempt


def test_a_small_accident_is_forgiven_once() -> None:
    system = System(1e6)
    found = search(disturbed(system, 0.02), system, 9.9e5, FLOOR)
    assert found is not None
    assert found.rate > 9.5e5
    assert system.rates[:2] == [9.9e5, 9.9e5]


def test_a_large_loss_is_no_accident() -> None:
    system = System(1e6)
    search(disturbed(system, 0.2), system, 5e5, FLOOR)
    assert system.rates[0] == 5e5
    assert system.rates[1] < 5e5


def test_what_is_not_confirmed_is_lowered() -> None:
    system, slower = System(1e6), System(8e5)
    found = search(system, slower, 1e6, FLOOR)
    assert found is not None
    assert 7.5e5 < found.rate <= 8.01e5
    assert slower.rates == sorted(slower.rates, reverse=True)


def test_nothing_is_confirmed() -> None:
    assert search(System(1e6), System(0), 1e6, FLOOR) is None


def test_the_bracket_narrows() -> None:
    bracket = Bracket(100.0)
    assert bracket.next() == 100.0
    bracket.tell(100.0, holds=True)
    up = bracket.next()
    assert up is not None
    assert up > 100.0
    bracket.tell(up, holds=False)
    between = bracket.next()
    assert between is not None
    assert 100.0 < between < up
    bracket.tell(between, holds=False)
    assert bracket.good == 100.0
    while (rate := bracket.next()) is not None:
        bracket.tell(rate, holds=True)
    assert bracket.good is not None
    assert between / bracket.good <= RESOLUTION
