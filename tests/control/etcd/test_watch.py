"""The watch on a real etcd: no gap and no loss, whatever breaks.

Each test stands for a failure that was measured with some etcd client or other."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import aclosing
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from aetcd import rpc
from hypothesis import given, strategies as st

from flannelette.control.etcd import channel, health, watch
from flannelette.control.etcd.channel import Deleted, Entry, Listing
from flannelette.control.etcd.watch import (
    BACKOFF_FIRST,
    BACKOFF_MOST,
    LeaseDirectory,
    backoff,
)
from flannelette.control.lease import Added, Removed
from tests.helpers.etcd import (
    require_etcd,
    running_etcd,
    settled as settled,
)
from tests.helpers.etcdplace import VALUE, Place, next_numbers, placed, subnets
from tests.helpers.etcdproxy import Answers, EtcdProxy, Lost, lose, untouched
from tests.helpers.storerig import (
    IPS,
    Watcher,
    eventually,
    network,
    watching,
)

require_etcd()


# Where nothing breaks.


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


# Cuts: where the next watch begins.


class Break:
    """Breaks the first watch when told to, and holds the second one back."""

    def __init__(self, proxy: EtcdProxy) -> None:
        self._proxy = proxy
        self._broken, self._go = asyncio.Event(), asyncio.Event()
        self._watches = count()
        proxy.before = self._before
        proxy.watch = self._watch
        self.second: Callable[[Answers], Answers] = untouched
        """What happens to the second watch."""

    async def cut_off(self) -> None:
        """Until the store has noticed, and is kept from coming back."""
        await eventually(lambda: self._proxy.calls.count("Watch") == 1)
        self._broken.set()
        await eventually(lambda: self._proxy.calls.count("Watch") == 2)

    def let_back(self) -> None:
        self._go.set()

    async def _before(self, method: str) -> None:
        if method == "Watch" and self._proxy.calls.count("Watch") > 1:
            await self._go.wait()

    async def _watch(self, answers: Answers) -> Answers:
        number = next(self._watches)
        if number == 0:
            yield await anext(answers)
            await self._broken.wait()
            raise Lost
        hook = self.second if number == 1 else untouched
        async with aclosing(hook(answers)) as seen:
            async for answer in seen:
                yield answer


async def test_a_cut_right_after_created_loses_nothing(
    proxy: EtcdProxy, proxied: Place
) -> None:
    """The confirmation names the present revision; to take that for the last one seen
    loses the history in between, silently."""
    cut = Break(proxy)

    async def created_only(answers: Answers) -> Answers:
        created = await anext(answers)
        assert created.header.revision == await proxied.client.revision()
        yield created
        raise Lost

    cut.second = created_only
    async with watching(proxied.store) as watcher:
        await watcher.snapshot()
        await cut.cut_off()
        await proxied.put(*range(1, 21))
        cut.let_back()
        assert await next_numbers(watcher, 20) == list(range(1, 21))
    assert proxy.calls.count("Watch") == 3
    assert proxied.store.status().resyncs == 0


async def test_fragments_count_only_together(proxy: EtcdProxy, proxied: Place) -> None:
    """Two fragments share a revision, and the connection breaks between them."""
    cut = Break(proxy)
    first: list[Any] = []
    # Members that LeaseAttrs ignores (L4) make the answer larger than etcd's 2 MiB.
    junk = json.dumps({"PublicIP": IPS[1], "junk": "x" * 12_000}).encode()

    async def one_fragment(answers: Answers) -> Answers:
        async for answer in answers:
            yield answer
            if answer.fragment:
                first.extend(answer.events)
                raise Lost

    cut.second = one_fragment
    async with watching(proxied.store) as watcher:
        await watcher.snapshot()
        await cut.cut_off()
        for start in (1, 101):
            numbers = range(start, start + 100)
            await proxied.client.put_all({proxied.key(n): junk for n in numbers})
        await proxied.put(250)
        cut.let_back()
        assert sorted(await next_numbers(watcher, 200)) == list(range(1, 201))
        assert await next_numbers(watcher, 1) == [250]
    assert 100 < len(first) < 200, "not cut within a revision"
    assert proxied.store.status().resyncs == 0


async def test_a_listing_may_be_larger_than_grpc_takes_by_default(place: Place) -> None:
    """4 MiB, which 25 000 leases reach."""
    junk = json.dumps({"PublicIP": IPS[1], "junk": "x" * 60_000}).encode()
    for first in range(1, 101, 20):
        numbers = range(first, first + 20)
        await place.client.put_all({place.key(n): junk for n in numbers})
    async with watching(place.store) as watcher:
        assert len((await watcher.snapshot()).leases) == 100


async def test_a_watch_that_is_never_confirmed_is_begun_again(
    proxy: EtcdProxy,
    proxied: Place,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As by a frozen server, which still accepts connections."""
    monkeypatch.setattr(channel, "CREATED", 0.2)
    watches = count()

    async def silent(answers: Answers) -> Answers:
        number = next(watches)
        async for answer in answers:
            if number > 1:
                yield answer

    proxy.watch = silent
    async with watching(proxied.store) as watcher:
        await watcher.snapshot()
        await proxied.put(1)
        assert await next_numbers(watcher, 1) == [1]
    assert proxied.store.status().resyncs == 0
    assert caplog.text.count("no answer in time") == 1
    assert proxied.store._health._steady is None, "nothing more is going to be said"


class Garbage:
    def SerializeToString(self) -> bytes:
        return b"\xff\xff"


async def test_a_watch_that_the_server_ends_is_begun_again(
    proxy: EtcdProxy, proxied: Place
) -> None:
    """Cancelled for any reason, simply over, or not speaking etcd's language."""
    watches = count()

    async def end(answers: Answers) -> Answers:
        number = next(watches)
        async for answer in answers:
            yield answer
            if number == 0:
                yield rpc.WatchResponse(canceled=True, cancel_reason="etcdserver: mood")
            elif number == 1:
                return
            elif number == 2:
                yield Garbage()

    proxy.watch = end
    async with watching(proxied.store) as watcher:
        await watcher.snapshot()
        await eventually(lambda: proxy.calls.count("Watch") == 4)
        await proxied.put(1)
        assert await next_numbers(watcher, 1) == [1]
    assert proxied.store.status().resyncs == 0


# Continuity lost.


async def test_compaction_while_cut_off_gives_a_snapshot(
    proxy: EtcdProxy, proxied: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """E29. What the history no longer tells is in the Snapshot."""
    cut = Break(proxy)
    await proxied.put(1, 2)
    async with watching(proxied.store) as watcher:
        assert len((await watcher.snapshot()).leases) == 2
        await cut.cut_off()
        await proxied.client.delete(proxied.key(1))
        await proxied.put(3)
        await proxied.client.compact()
        with caplog.at_level(logging.INFO):
            cut.let_back()
            await watcher.snapshot()
        assert watcher.peers.keys() == subnets(range(2, 4))
        await proxied.put(4)
        assert await next_numbers(watcher, 1) == [4]
    assert proxied.store.status().resyncs == 1
    assert caplog.text.count("compacted") == 1


async def test_a_long_outage_is_said_once(
    proxy: EtcdProxy,
    proxied: Place,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(watch, "BACKOFF_MOST", 0.2)
    monkeypatch.setattr(health, "STEADY", 0.01)
    proxy.before = lose("Watch", times=5)
    with caplog.at_level(logging.INFO):
        async with watching(proxied.store) as watcher:
            await watcher.snapshot()
            await eventually(lambda: proxy.calls.count("Watch") == 6)
            await eventually(lambda: "etcd is back" in caplog.text)
    assert caplog.text.count("not watched") == 1
    assert caplog.text.count("etcd is back") == 1


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


def test_the_back_off_grows_to_its_limit_and_differs() -> None:
    pauses = list(islice(backoff(), 20))
    assert all(BACKOFF_FIRST / 2 <= pause <= BACKOFF_MOST for pause in pauses)
    assert pauses[0] <= BACKOFF_FIRST
    assert all(pause >= BACKOFF_MOST / 2 for pause in pauses[5:])
    assert len(set(pauses[5:])) > 10


# What entries mean.


FIRST = b"/p/subnets/"

keys = st.one_of(
    st.binary(max_size=40),
    st.text("0123456789.-&:abcdef/", max_size=30).map(str.encode),
    st.sampled_from(
        [b"10.5.1.0-24", b"10.5.1.0-024", b"10.5.1.1-24", b"10.0.0.0-8", b"10.0.0.0-08"]
    ),
)
values = st.one_of(st.binary(max_size=60), st.just(VALUE))


@given(st.lists(st.tuples(keys, values, st.integers(0, 3)), max_size=8))
def test_any_entries_are_read(entries: list[tuple[bytes, bytes, int]]) -> None:
    """H1: hostile bytes are skipped. A lease has the key that we would write."""
    directory = LeaseDirectory(b"/p/subnets")
    listing = Listing(
        9,
        tuple(Entry(FIRST + key, value, 5, lease) for key, value, lease in entries),
    )
    leases, blocked = directory.leases(listing)
    written = {FIRST + key: value for key, value, _ in entries}
    for lease in leases:
        assert directory.key(lease) in written
    assert len(leases) + len(blocked) <= len(entries)
    assert (directory.skipped.count == 0) == (len(leases) == len(entries))
    for entry in listing.entries:
        event = directory.event(entry)
        assert event is None or isinstance(event, Added)
        gone = directory.event(Deleted(entry.key, 6))
        assert isinstance(gone, Removed | None)


entries_ = st.lists(
    st.builds(
        lambda key, value, revision, lease: Entry(FIRST + key, value, revision, lease),
        st.sampled_from([b"10.5.1.0-24", b"10.5.2.0-24", b"none"]),
        st.sampled_from([VALUE, b"{}"]),
        st.integers(5, 6),
        st.integers(0, 1),
    ),
    unique_by=lambda entry: entry.key,
)


@given(entries_, entries_)
def test_a_listing_that_comes_again_soon_is_read_as_the_first(
    before: list[Entry], after: list[Entry]
) -> None:
    first, second = Listing(9, tuple(before)), Listing(9, tuple(after))
    directory = LeaseDirectory(b"/p/subnets")
    leases, _ = directory.leases(first, again_soon=True)
    found = directory.leases(second)
    assert found == LeaseDirectory(b"/p/subnets").leases(second)
    same = {entry.key for entry in before if entry in after}
    kept = {id(lease) for lease in leases if directory.key(lease) in same}
    assert kept <= {id(lease) for lease in found[0]}
    # And only once: leases are many.
    third, _ = directory.leases(second)
    assert not kept & {id(lease) for lease in third}
