"""The watch on a real etcd, cut off: no gap and no loss, wherever the next one begins.

Each test stands for a failure that was measured with some etcd client or other."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import aclosing
from itertools import count, islice
from typing import Any

import pytest
from aetcd import rpc

from flannelette.control.etcd import channel, health, watch
from flannelette.control.etcd.watch import BACKOFF_FIRST, BACKOFF_MOST, backoff
from tests.helpers.etcd import require_etcd, settled as settled
from tests.helpers.etcdplace import Place, next_numbers, subnets
from tests.helpers.etcdproxy import Answers, EtcdProxy, Lost, lose, untouched
from tests.helpers.storerig import IPS, eventually, watching

require_etcd()


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


def test_the_back_off_grows_to_its_limit_and_differs() -> None:
    pauses = list(islice(backoff(), 20))
    assert all(BACKOFF_FIRST / 2 <= pause <= BACKOFF_MOST for pause in pauses)
    assert pauses[0] <= BACKOFF_FIRST
    assert all(pause >= BACKOFF_MOST / 2 for pause in pauses[5:])
    assert len(set(pauses[5:])) > 10
