"""What a run of the lab is to do, and whether there is time for it."""

from __future__ import annotations

from typing import Any

import pytest

from flannelette.benchmarks.labplan import (
    FULL,
    MEASURES,
    MOST_SECONDS,
    QUICK,
    RUN_SECONDS,
    SETUP_SECONDS,
    Wish,
)
from flannelette.benchmarks.labrungs import BY_RUNG


def wish(**changes: Any) -> Wish:
    settings: dict[str, Any] = {
        "wire": "nic",
        "rungs": tuple(BY_RUNG),
        "measures": MEASURES,
        "depth": FULL,
        "command": "",
    }
    return Wish(**settings | changes)


def names(kinds: Any) -> list[str]:
    return [kind.name for kind in kinds]


def test_who_takes_part() -> None:
    it = wish(rungs=("threads", "python", "none", "c"))
    assert names(it.kinds) == ["none", "python", "c", "threads"]
    assert names(it.daemons) == ["python", "c", "threads"]
    assert names(it.timed) == ["c", "threads"]


def test_what_timers_cost_is_seen_on_the_default_driver() -> None:
    assert wish().times_timers
    assert not wish(rungs=("c", "tun")).times_timers
    assert not wish(depth=QUICK).times_timers


def test_what_follows_the_rounds() -> None:
    assert wish(depth=QUICK).seconds_after == 0
    assert wish(rungs=("none", "vxlan")).seconds_after == 0
    look = SETUP_SECONDS + RUN_SECONDS
    assert wish(rungs=("python",)).seconds_after == pytest.approx(look)
    assert wish(rungs=("c",)).seconds_after == pytest.approx(2 * look)
    timers = 2 * SETUP_SECONDS + 6 * RUN_SECONDS
    assert wish(rungs=("thread",)).seconds_after == pytest.approx(2 * look + timers)


def test_rounds_that_fit() -> None:
    it = wish(depth=QUICK)
    assert it.fits(0, 1e9)  # the first is taken however long it takes
    assert it.fits(1, MOST_SECONDS / 2)
    assert not it.fits(1, MOST_SECONDS / 2 + 1)
    assert not it.fits(2, MOST_SECONDS * 2 / 3 + 1)
    assert not wish().fits(1, MOST_SECONDS / 2)  # other things are to follow
