"""The watch while etcd is stopped, frozen, wiped or cut off: nothing is lost."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from flannelette.control.etcd import health, servers, watch
from tests.helpers.etcd import (
    Etcd,
    require_etcd,
    running_cluster,
    running_etcd,
    settled as settled,
)
from tests.helpers.etcdplace import next_numbers, placed, subnets
from tests.helpers.storerig import (
    Watcher,
    eventually,
    network,
    watching,
)

require_etcd()


async def test_an_etcd_that_was_set_up_anew_gives_a_snapshot(own_etcd: Etcd) -> None:
    """Its revisions begin at 1 again; a watch from ours would keep quiet for long."""
    async with placed(own_etcd) as place:
        await place.put(*range(1, 21))
        async with watching(place.store) as watcher:
            await watcher.snapshot()
            own_etcd.stop()
            own_etcd.wipe()
            own_etcd.start()
            await place.put(30)
            while watcher.peers.keys() != {network("10.5.30.0/24")}:
                await watcher.next()
            await place.put(31)
            await watcher.until(subnets(range(30, 32)))
        assert place.store.status().resyncs >= 1


# Outages.


async def test_a_restart_loses_nothing_and_is_said_once(
    own_etcd: Etcd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E28."""
    monkeypatch.setattr(health, "STEADY", 0.01)
    with caplog.at_level(logging.INFO):
        async with placed(own_etcd) as place, watching(place.store) as watcher:
            await watcher.snapshot()
            await place.put(1)
            assert await next_numbers(watcher, 1) == [1]
            own_etcd.stop()
            await eventually(lambda: "not watched" in caplog.text)
            assert not place.store.status().connected
            assert place.store.status().error
            assert place.store.status().outage > 0
            own_etcd.start()
            await place.put(*range(2, 12))
            assert await next_numbers(watcher, 10) == list(range(2, 12))
            status = place.store.status()
            assert (status.connected, status.error) == (True, None)
            assert status.outage == 0
            assert status.resyncs == 0
            await eventually(lambda: "etcd is back" in caplog.text)
    assert caplog.text.count("not watched") == 1
    assert caplog.text.count("etcd is back") == 1


async def test_a_store_may_be_older_than_its_etcd(
    own_etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "BUDGET", 0.3)
    own_etcd.stop()
    async with placed(own_etcd) as place, watching(place.store) as watcher:
        await eventually(lambda: place.store.status().error is not None)
        assert not place.store.status().connected
        own_etcd.start()
        await place.put(1)
        await watcher.until(subnets(range(1, 2)))


async def test_a_freeze_is_noticed_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP: the connection stands and nothing answers. Only pings tell, and gRPC
    leaves them off on a connection that has been idle, unless told otherwise.

    A tenth of the real times, lest the test take half a minute."""
    quick = [
        (name, value // 10 if "keepalive" in name or "ping_timeout" in name else value)
        for name, value in servers.OPTIONS
    ]
    monkeypatch.setattr(servers, "OPTIONS", quick)
    with running_etcd(tmp_path, arguments=["--grpc-keepalive-min-time", "0s"]) as etcd:
        async with placed(etcd) as place, watching(place.store) as watcher:
            await place.put(1)
            await watcher.until(subnets(range(1, 2)))
            await asyncio.sleep(3)  # not for anything to happen: this is the idling
            etcd.freeze()
            await eventually(lambda: not place.store.status().connected)
            etcd.thaw()
            await place.put(2, 3)
            assert await next_numbers(watcher, 2) == [2, 3]
            assert place.store.status().resyncs == 0


async def test_a_short_freeze_loses_nothing(own_etcd: Etcd) -> None:
    """SIGSTOP and SIGCONT, with writes under way all the time."""
    async with placed(own_etcd) as place, watching(place.store) as watcher:
        await watcher.snapshot()
        writing = asyncio.create_task(place.put(*range(1, 201)))
        assert await next_numbers(watcher, 10) == list(range(1, 11))
        own_etcd.freeze()
        await asyncio.sleep(0.5)
        assert not writing.done()
        own_etcd.thaw()
        assert await next_numbers(watcher, 190) == list(range(11, 201))
        await writing


async def test_a_member_cut_off_from_the_others_is_noticed(tmp_path: Path) -> None:
    """`hasleader`: two of three members die, and the survivor ends the watch."""
    with running_cluster(tmp_path) as members:
        survivor, *others = members
        async with placed(survivor) as place, watching(place.store) as watcher:
            await watcher.snapshot()
            await eventually(lambda: place.store.status().connected)
            for member in others:
                member.stop()
            await eventually(lambda: not place.store.status().connected)
            for member in others:
                member.start()
            await place.put(1)
            assert await next_numbers(watcher, 1) == [1]
        assert place.store.status().resyncs == 0


async def test_close_ends_a_watch_that_waits_to_try_again(
    own_etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "BUDGET", 0.3)
    monkeypatch.setattr(watch, "BACKOFF_FIRST", 3600)
    own_etcd.stop()
    async with placed(own_etcd) as place:
        watcher = Watcher()
        task = asyncio.create_task(watcher.feed(place.store))
        await eventually(lambda: place.store.status().error is not None)
        await place.store.close()
        async with asyncio.timeout(10):
            await task
