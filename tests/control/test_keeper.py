"""Our own lease: renewed in time, taken again when revoked, lost only to another."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import cast

import pytest

from flannelette.control import keeper as module
from flannelette.control.backends.udp import UdpBackend
from flannelette.control.carrier import Carrier
from flannelette.control.errors import LeaseLost, StoreError, StoreUnavailable
from flannelette.control.interface import External
from flannelette.control.keeper import LeaseKeeper, insist
from flannelette.control.lease import Added, Event, Lease, LeaseAttrs, Removed, Snapshot
from flannelette.control.localstore import LocalStore
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.node import Node
from flannelette.control.plan import Plan

CONFIG = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
US, THEM = LeaseAttrs(IPv4Address("192.0.2.1")), LeaseAttrs(IPv4Address("192.0.2.2"))
ELSEWHERE = IPv4Network("10.5.0.0/24")


class Nothing:
    """A carrier that nobody is interested in."""

    def apply(self, *routes: object) -> None:
        pass


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


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Flaky]:
    store = Flaky(tmp_path / "store.sqlite")
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    monkeypatch.setattr(module, "RETRY_FIRST", 0.01)


@pytest.fixture
async def lease(store: Flaky) -> Lease:
    return await store.acquire(US, CONFIG, None)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.01)


async def keeping(keeper: LeaseKeeper, until: Callable[[], bool]) -> None:
    task = asyncio.create_task(keeper.keep())
    await eventually(lambda: until() or task.done())
    if task.done():
        task.result()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def nearly_over(lease: Lease) -> Lease:
    return replace(lease, expires=time.time() + 100)


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


either_failure = pytest.mark.parametrize(
    "failure",
    [StoreUnavailable("no answer"), StoreError("permission denied")],
    ids=["silent", "refusing"],
)


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


async def test_what_is_not_about_us_changes_nothing(store: Flaky, lease: Lease) -> None:
    store.failures = 1
    keeper = LeaseKeeper(store, lease, margin=3600)
    keeper.notice(Removed(ELSEWHERE))
    keeper.notice(Added(Lease(ELSEWHERE, THEM)))
    keeper.notice(Added(lease))
    keeper.notice(Snapshot((Lease(ELSEWHERE, THEM), lease)))
    assert (keeper.lease, store.failures) == (lease, 1)


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


@pytest.mark.parametrize("kind", [Added, lambda lease: Snapshot((lease,))])
async def test_another_holder_is_the_end(
    store: Flaky, lease: Lease, kind: Callable[[Lease], Added | Snapshot]
) -> None:
    keeper = LeaseKeeper(store, lease, margin=3600)
    with pytest.raises(LeaseLost, match=r"192\.0\.2\.2"):
        keeper.notice(kind(Lease(lease.subnet, THEM)))


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


async def test_a_lease_lost_at_renewal_is_the_end(store: Flaky, lease: Lease) -> None:
    """Renewing fails, and so does taking it again."""
    store.failures, store.failure = 2, LeaseLost("held by 192.0.2.2 now")
    keeper = LeaseKeeper(store, nearly_over(lease), margin=3600)
    with pytest.raises(LeaseLost, match=r"192\.0\.2\.2"):
        await asyncio.wait_for(keeper.keep(), 10)
    assert store.failures == 0


async def test_a_lease_lost_when_taken_again_is_the_end(
    store: Flaky, lease: Lease
) -> None:
    store.failures, store.failure = 1, LeaseLost("held by 192.0.2.2 now")
    keeper = LeaseKeeper(store, lease, margin=3600)
    keeper.notice(Removed(lease.subnet))
    with pytest.raises(LeaseLost, match=r"192\.0\.2\.2"):
        await asyncio.wait_for(keeper.keep(), 10)


@pytest.mark.parametrize("error", [StoreError("wrong password"), LeaseLost("theirs")])
async def test_a_refusal_before_the_first_lease_is_fatal(error: StoreError) -> None:
    async def call() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        await asyncio.wait_for(insist("wait", call, lease_held=False), 10)


@pytest.mark.parametrize("lease_held", [False, True])
async def test_insist_says_once(
    lease_held: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answers = iter([StoreUnavailable("one"), StoreUnavailable("two"), "done"])

    async def call() -> str:
        answer = next(answers)
        if isinstance(answer, StoreUnavailable):
            raise answer
        return str(answer)

    assert await insist("wait", call, lease_held) == "done"
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for the store: to='wait' error=one",
        "the store answers again: to='wait'",
    ]
