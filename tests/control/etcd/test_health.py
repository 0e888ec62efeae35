"""What the log is told of an outage, in few words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from flannelette.control.errors import StoreError, StoreUnavailable
from flannelette.control.etcd import health as module
from flannelette.control.etcd.health import Health
from tests.helpers.storerig import eventually

REFUSED = StoreUnavailable("127.0.0.1:2379: Connection refused")
ELSEWHERE = StoreUnavailable("127.0.0.1:2380: Connection refused")
BROKEN = StoreUnavailable("127.0.0.1:2379: Socket closed")
DENIED = StoreError("etcd refuses: permission denied")

NOT_WATCHED = "etcd is not watched, trying again: error="
STILL = "etcd is still not watched: error="


@pytest.fixture(autouse=True)
def loud(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "STEADY", 0.01)


@pytest.fixture
async def health() -> AsyncIterator[Health]:
    health = Health()
    health.up()
    yield health
    health.close()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def test_a_watch_that_stands_again_at_once_is_no_outage(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    health.down(BROKEN)
    assert (health.connected, health.error) == (False, str(BROKEN))
    health.up()
    assert (health.connected, health.error) == (True, None)
    await eventually(lambda: bool(caplog.records))
    assert said(caplog) == [f"the watch of etcd was begun again: cause={BROKEN}"]


async def test_an_outage_is_told_once_and_that_it_is_over(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever server it is that fails."""
    for _ in range(2):
        caplog.clear()
        for error in (BROKEN, *[REFUSED, ELSEWHERE] * 5):
            health.down(error)
        health.up()
        health.up()
        await eventually(lambda: len(caplog.records) > 1)
        one, other = said(caplog)
        assert one == NOT_WATCHED + str(REFUSED)
        assert other.startswith("etcd is back: seconds=0.")


async def test_another_reason_is_told_if_it_stays(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    """A restart of etcd, after which it wants another certificate or password."""
    for error in (BROKEN, REFUSED, BROKEN, *[DENIED] * 10, *[REFUSED] * 10):
        health.down(error)
    assert said(caplog) == [NOT_WATCHED + str(REFUSED), STILL + str(DENIED)]


async def test_reasons_that_are_ever_new_do_not_fill_the_log(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        for _ in range(5):
            health.down(StoreError(f"reason {number}"))
    assert len(caplog.records) == 1 + module.REASONS
    assert len(health._outage._met) == module.REASONS  # type: ignore[union-attr]


async def test_a_watch_that_does_not_stand_long_ends_no_outage(
    health: Health, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while the servers elect a leader."""
    monkeypatch.setattr(module, "STEADY", 3600)
    for error in (BROKEN, REFUSED, BROKEN):
        health.down(error)
        health.up()
    monkeypatch.setattr(module, "STEADY", 0.01)
    health.down(BROKEN)
    health.up()
    await eventually(lambda: len(caplog.records) > 1)
    one, other = said(caplog)
    assert one == NOT_WATCHED + str(REFUSED)
    assert other.startswith("etcd is back: ")


async def test_a_watch_that_is_closed_says_no_more(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    health.down(BROKEN)
    health.up()
    health.close()
    await asyncio.sleep(0.05)
    assert said(caplog) == []
