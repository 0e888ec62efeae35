"""Keepers of a lease, and a store of theirs whose calls fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from flannelette.control.errors import StoreError, StoreUnavailable
from flannelette.control.keeper import LeaseKeeper
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.localstore import LocalStore
from flannelette.control.netconfig import NetworkConfig
from tests.helpers.waiting import eventually

CONFIG = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
US, THEM = LeaseAttrs(IPv4Address("192.0.2.1")), LeaseAttrs(IPv4Address("192.0.2.2"))


class Flaky(LocalStore):
    """A local store whose next calls fail, as if nobody answered by default."""

    failures = 0
    failure: StoreError = StoreUnavailable("no answer")

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise self.failure

    async def renew(self, lease: Lease) -> Lease:
        self._fail()
        return await super().renew(lease)

    async def reacquire(self, lease: Lease) -> Lease:
        self._fail()
        return await super().reacquire(lease)


async def keeping(keeper: LeaseKeeper, until: Callable[[], bool]) -> None:
    """Keep the lease until that holds."""
    task = asyncio.create_task(keeper.keep())
    await eventually(lambda: until() or task.done())
    if task.done():
        task.result()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def nearly_over(lease: Lease) -> Lease:
    return replace(lease, expires=time.time() + 100)


either_failure = pytest.mark.parametrize(
    "failure",
    [StoreUnavailable("no answer"), StoreError("permission denied")],
    ids=["silent", "refusing"],
)
