"""Our own lease is taken again when it is revoked, and lost only to another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import cast

import pytest

from flannelette.control.backends.udp import UdpBackend
from flannelette.control.carrier import Carrier
from flannelette.control.errors import LeaseLost, StoreError
from flannelette.control.interface import External
from flannelette.control.keeper import LeaseKeeper
from flannelette.control.lease import Added, Event, Lease, Removed, Snapshot
from flannelette.control.localstore import LocalStore
from flannelette.control.node import Node
from flannelette.control.plan import Plan
from tests.helpers.keepers import CONFIG, THEM, US, Flaky, either_failure, keeping

ELSEWHERE = IPv4Network("10.5.0.0/24")


async def test_what_is_not_about_us_changes_nothing(store: Flaky, lease: Lease) -> None:
    store.failures = 1
    keeper = LeaseKeeper(store, lease, margin=3600)
    keeper.notice(Removed(ELSEWHERE))
    keeper.notice(Added(Lease(ELSEWHERE, THEM)))
    keeper.notice(Added(lease))
    keeper.notice(Snapshot((Lease(ELSEWHERE, THEM), lease)))
    assert (keeper.lease, store.failures) == (lease, 1)


# ---- taken again ---------------------------------------------------------------------


@either_failure
@pytest.mark.parametrize("event", ["removed", "snapshot"])
async def test_revoked_and_taken_again(
    store: Flaky,
    lease: Lease,
    event: str,
    failure: StoreError,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.failures, store.failure = 2, failure
    keeper = LeaseKeeper(store, lease, margin=3600)
    gone = Removed(lease.subnet) if event == "removed" else Snapshot(())
    for _ in range(2):
        keeper.notice(gone)
        assert keeper.revoked
    await keeping(keeper, lambda: not keeper.revoked)
    assert store.failures == 0, "it insists"
    assert keeper.lease.subnet == lease.subnet
    assert keeper.lease.revision != lease.revision
    assert keeper.error is None
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == [
        f"our lease was revoked: subnet={lease.subnet} "
        "reason='the store has it no more'",
        f"waiting for the store: to='take the lease again' error={failure}",
    ]


async def test_revoked_once_more_while_it_is_taken_again(
    store: Flaky, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = LeaseKeeper(store, lease, margin=3600)
    revisions: list[int] = []

    async def reacquire(own: Lease) -> Lease:
        taken = await LocalStore.reacquire(store, own)
        if not revisions:  # the event comes before we hear of our own success
            keeper.notice(Removed(lease.subnet))
        revisions.append(taken.revision)
        return taken

    monkeypatch.setattr(store, "reacquire", reacquire)
    keeper.notice(Removed(lease.subnet))
    await keeping(keeper, lambda: not keeper.revoked)
    assert len(revisions) == 2
    assert keeper.lease.revision == revisions[-1]


async def test_a_lease_lost_when_taken_again_is_the_end(
    store: Flaky, lease: Lease
) -> None:
    store.failures, store.failure = 1, LeaseLost("held by 192.0.2.2 now")
    keeper = LeaseKeeper(store, lease, margin=3600)
    keeper.notice(Removed(lease.subnet))
    with pytest.raises(LeaseLost, match=r"192\.0\.2\.2"):
        await asyncio.wait_for(keeper.keep(), 10)


# ---- another holder ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Added, lambda lease: Snapshot((lease,))])
async def test_another_holder_is_the_end(
    store: Flaky, lease: Lease, kind: Callable[[Lease], Added | Snapshot]
) -> None:
    keeper = LeaseKeeper(store, lease, margin=3600)
    with pytest.raises(LeaseLost, match=r"192\.0\.2\.2"):
        keeper.notice(kind(Lease(lease.subnet, THEM)))


class Nothing:
    """A carrier that nobody is interested in."""

    def apply(self, *routes: object) -> None:
        pass


async def test_another_holder_closes_the_watch(
    store: Flaky, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: a watch is a call to a server, and the collector comes when it likes."""
    closed = asyncio.Event()

    async def watch() -> AsyncGenerator[Event, None]:
        try:
            yield Snapshot((Lease(lease.subnet, THEM),))
        finally:
            closed.set()

    monkeypatch.setattr(store, "watch", watch)
    external = External("eth0", 2, 1500, US.public_ip, US.public_ip)
    plan = Plan(external, CONFIG, UdpBackend())
    keeper = LeaseKeeper(store, lease, margin=3600)
    node = Node(plan, store, keeper, cast(Carrier, Nothing()))
    with pytest.raises(LeaseLost) as caught:
        await node._follow()
    assert closed.is_set(), caught  # which holds the frame, so nothing was collected


async def test_another_key_with_our_subnet_is_not_our_lease(
    store: Flaky, lease: Lease
) -> None:
    """A dual-stack one, in a network that has changed: the lease table sees to it."""
    keeper = LeaseKeeper(store, lease, margin=3600)
    six = IPv6Network("fd00:5:0:1::/64")
    other = replace(lease, attrs=THEM, subnet6=six)
    keeper.notice(Added(other))
    keeper.notice(Removed(lease.subnet, six))
    keeper.notice(Snapshot((other, lease)))
    assert keeper.lease is lease
    with pytest.raises(LeaseLost):
        keeper.notice(Added(replace(lease, attrs=THEM)))
