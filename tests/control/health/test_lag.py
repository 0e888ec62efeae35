"""How late the loop is."""

from __future__ import annotations

import asyncio
import time

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


async def test_a_blocked_loop_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD", 0.01)
    lag = Lag()
    watch = asyncio.create_task(lag.watch())
    await eventually(lambda: sum(lag.counts) > 0)
    before = lag.total
    time.sleep(0.1)  # noqa: ASYNC251 (it is what shall be seen)
    await eventually(lambda: lag.total > before + 0.05)
    watch.cancel()
    await asyncio.wait([watch])
