"""The watch on a real etcd, where nothing breaks: no gap and no loss."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from flannelette.control.lease import Removed
from tests.helpers.etcd import require_etcd, running_etcd, settled as settled
from tests.helpers.etcdplace import VALUE, Place, next_numbers, placed, subnets
from tests.helpers.etcdproxy import EtcdProxy
from tests.helpers.storerig import IPS, Watcher, eventually, network, watching

require_etcd()


async def test_that_there_is_nothing_new_is_news(tmp_path: Path) -> None:
    """etcd says so every ten minutes; an idle watch is not taken for a dead one."""
    flag = "--experimental-watch-progress-notify-interval=100ms"
    with running_etcd(tmp_path, arguments=[flag]) as quick:
        async with placed(quick) as place, watching(place.store) as watcher:
            await watcher.snapshot()
            contact = place.store._health.contact
            told: list[float] = []

            def heard_again() -> bool:
                told.append(contact._heard or 0.0)
                return len(set(told)) == 4

            await eventually(heard_again)
            await place.put(1)
            assert await next_numbers(watcher, 1) == [1]


async def test_nothing_is_missed_while_the_watch_begins(place: Place) -> None:
    """E25: from R+1. Ten watches begin while somebody writes, who goes on until the
    last of them has heard something."""
    watches, begun = 10, 0

    async def hammer() -> int:
        written = 0
        while begun < watches:
            key = place.key(f"10.{written >> 8}.{written & 0xFF}.0-24")
            await place.client.put(key, VALUE)
            written += 1
        return written

    async def watch_from_now() -> None:
        nonlocal begun
        async with watching(place.store) as watcher:
            await watcher.snapshot()
            await watcher.added()
            begun += 1
            written = await writing
            while len(watcher.leases) < written:
                await watcher.added()

    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(hammer())
        for _ in range(watches):
            await asyncio.sleep(0.005)  # and they begin one after the other
            tasks.create_task(watch_from_now())


async def test_a_change_between_listing_and_watch_is_seen(
    proxy: EtcdProxy, proxied: Place
) -> None:
    """E25: the very next revision."""

    async def write(method: str) -> None:
        if method == "Watch":
            await proxied.put(1, 2)

    proxy.before = write
    async with watching(proxied.store) as watcher:
        assert (await watcher.snapshot()).leases == ()
        assert await next_numbers(watcher, 2) == [1, 2]


async def test_changes_of_one_revision_all_arrive(place: Place) -> None:
    async with watching(place.store) as watcher:
        await watcher.snapshot()
        await place.client.put_all({place.key(n): VALUE for n in range(1, 101)})
        await watcher.until(subnets(range(1, 101)))
    assert place.store.status().revision == await place.client.revision()


async def test_a_lease_whose_value_turns_bad_stays_as_it_was(place: Place) -> None:
    """H1. Its end is seen all the same."""
    async with watching(place.store) as watcher:
        await watcher.snapshot()
        await place.put(1)
        await place.put(1, value=b"broken")
        await place.put(2)
        assert await next_numbers(watcher, 2) == [1, 2]
        await place.client.delete(place.key(1))
        assert await watcher.next() == Removed(network("10.5.1.0/24"))
    assert place.store.status().skipped == 1


async def test_the_server_must_say_when_it_has_no_leader(
    proxy: EtcdProxy, proxied: Place
) -> None:
    """Without `hasleader` a member that is cut off keeps quiet for ever."""
    async with watching(proxied.store) as watcher:
        await watcher.snapshot()
        await eventually(lambda: ("hasleader", "true") in proxy.metadata)


async def test_a_listing_may_be_larger_than_grpc_takes_by_default(place: Place) -> None:
    """4 MiB, which 25 000 leases reach."""
    junk = json.dumps({"PublicIP": IPS[1], "junk": "x" * 60_000}).encode()
    for first in range(1, 101, 20):
        numbers = range(first, first + 20)
        await place.client.put_all({place.key(n): junk for n in numbers})
    async with watching(place.store) as watcher:
        assert len((await watcher.snapshot()).leases) == 100


async def test_close_ends_a_watch_under_way(place: Place) -> None:
    """The iteration is over; it is not cancelled, which would end the daemon's task."""
    watcher = Watcher()
    task = asyncio.create_task(watcher.feed(place.store))
    await watcher.snapshot()
    await place.put(1)
    assert await next_numbers(watcher, 1) == [1]
    async with asyncio.timeout(10):
        await place.store.close()
        await task
