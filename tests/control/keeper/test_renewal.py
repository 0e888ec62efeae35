"""Our own lease is renewed in time, by whatever clock and with whatever store."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

import pytest

from flannelette.control import keeper as module
from flannelette.control.errors import LeaseLost, StoreError
from flannelette.control.keeper import LeaseKeeper
from flannelette.control.lease import Lease, Removed
from tests.helpers.keepers import Flaky, either_failure, keeping, nearly_over


async def test_renewed_at_the_margin_e20(store: Flaky, lease: Lease) -> None:
    keeper = LeaseKeeper(store, nearly_over(lease), margin=3600)
    await keeping(keeper, lambda: keeper.lease.revision != lease.revision)
    assert keeper.lease.expires is not None
    assert keeper.lease.expires > time.time() + 86000
    assert keeper.lease.attrs == lease.attrs


async def test_not_renewed_before_the_margin(store: Flaky, lease: Lease) -> None:
    store.failures = 1
    keeper = LeaseKeeper(store, lease, margin=3600)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keeper.keep(), 0.1)
    assert store.failures == 1, "the store was never asked"


DAY = 24 * 3600


@pytest.mark.parametrize("jump", [-1000 * DAY, -DAY, -3600, 3600, DAY, 1000 * DAY])
async def test_a_clock_that_jumps_neither_hastens_nor_delays_a_renewal(
    store: Flaky, lease: Lease, jump: int
) -> None:
    """What counts is what etcd counts: seconds since the lease was written."""
    now, passed = 1e9, 5.0
    keeper = LeaseKeeper(
        store,
        replace(lease, expires=now + DAY),
        margin=3600,
        clock=lambda: now,
        steady=lambda: passed,
    )
    now += jump
    passed += DAY - 3600 - 1
    assert keeper.seconds_left() == 3601
    store.failures = 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keeper.keep(), 0.05)
    assert store.failures == 1, "the store was never asked"
    passed += 1
    store.failures = 0
    await keeping(keeper, lambda: keeper.lease.revision != lease.revision)


async def test_a_lease_shorter_than_the_margin_is_renewed_now_and_then(
    store: Flaky, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may grant less than was asked for; it is not to be stormed."""
    monkeypatch.setattr(module, "LOOK", 3600)
    renewed = []

    async def renew(own: Lease) -> Lease:
        renewed.append(own)
        return nearly_over(own)

    monkeypatch.setattr(store, "renew", renew)
    keeper = LeaseKeeper(store, nearly_over(lease), margin=3600)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keeper.keep(), 0.1)
    assert len(renewed) == 1


async def test_a_permanent_lease_is_left_alone(store: Flaky, lease: Lease) -> None:
    store.failures = 1
    keeper = LeaseKeeper(store, replace(lease, permanent=True, expires=None), 3600)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keeper.keep(), 0.1)
    assert store.failures == 1
    assert keeper.seconds_left() is None


# ---- failures ------------------------------------------------------------------------


@either_failure
async def test_a_failing_store_is_asked_again_and_reported_once(
    store: Flaky,
    lease: Lease,
    failure: StoreError,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.failures, store.failure = 3, failure
    keeper = LeaseKeeper(store, nearly_over(lease), margin=3600)
    await keeping(keeper, lambda: keeper.lease.revision != lease.revision)
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.getMessage() for r in warnings] == [
        f"the lease is not renewed yet: error={failure}"
    ]


async def test_a_failing_store_is_asked_now_and_then(
    store: Flaky, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E20. But a lease that is revoked meanwhile is taken again at once."""
    monkeypatch.setattr(module, "LOOK", 3600)
    store.failures = 2
    keeper = LeaseKeeper(store, nearly_over(lease), margin=3600)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keeper.keep(), 0.1)
    assert (store.failures, keeper.error) == (1, "no answer")
    keeper.notice(Removed(lease.subnet))
    await keeping(keeper, lambda: not keeper.revoked)
    assert keeper.error is None


async def test_a_lease_gone_at_renewal_is_taken_again(
    store: Flaky, lease: Lease
) -> None:
    gone = replace(lease, revision=lease.revision + 100)
    keeper = LeaseKeeper(store, nearly_over(gone), margin=3600)
    await keeping(keeper, lambda: keeper.lease.revision != gone.revision)
    assert keeper.lease.subnet == lease.subnet


async def test_a_lease_lost_at_renewal_is_the_end(store: Flaky, lease: Lease) -> None:
    """Renewing fails, and so does taking it again."""
    store.failures, store.failure = 2, LeaseLost("held by 192.0.2.2 now")
    keeper = LeaseKeeper(store, nearly_over(lease), margin=3600)
    with pytest.raises(LeaseLost, match=r"192\.0\.2\.2"):
        await asyncio.wait_for(keeper.keep(), 10)
    assert store.failures == 0
