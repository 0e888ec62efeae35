"""How late the loop is."""

from __future__ import annotations

import asyncio
from itertools import count
from types import SimpleNamespace

import pytest

from flannelette.control.health import lag as module
from flannelette.control.health.lag import BOUNDS, Lag
from tests.helpers.storerig import eventually


def test_each_look_is_counted_once_at_its_bound() -> None:
    lag = Lag()
    for seconds in (-0.1, 0.0, BOUNDS[0], BOUNDS[0] + 1e-6, BOUNDS[-1], 99.0):
        lag.note(seconds)
    middle = [0] * (len(BOUNDS) - 3)
    assert lag.counts == [3, 1, *middle, 1, 1]
    assert lag.total == pytest.approx(2 * BOUNDS[0] + BOUNDS[-1] + 99.000001)


async def test_what_is_late_is_what_comes_after_the_time_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock that takes 0.0625 s for each sleep of 1/64 s."""
    monkeypatch.setattr(module, "PERIOD", 1 / 64)
    clock = SimpleNamespace(monotonic=count(0.0, 1 / 16).__next__)
    monkeypatch.setattr(module, "time", clock)
    lag = Lag()
    watch = asyncio.create_task(lag.watch())
    await eventually(lambda: sum(lag.counts) >= 3)
    watch.cancel()
    await asyncio.wait([watch])
    assert lag.total == 3 / 64 * sum(lag.counts)
