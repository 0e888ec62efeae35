"""The static store when its file changes: seen, read whole, and refused when wrong."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from pathlib import Path

import pytest

from flannelette.control import staticstore
from flannelette.control.lease import Snapshot
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.staticstore import StaticStore
from tests.helpers.staticfiles import GOOD, NETWORK, Write, node
from tests.helpers.storerig import (
    DEADLINE,
    IPS,
    acquire,
    eventually,
    network,
    watching,
)


def subnets(event: object) -> set[str]:
    assert isinstance(event, Snapshot)
    return {str(lease.subnet) for lease in event.leases}


ALL = {"10.5.1.0/24", "10.5.2.0/24", "10.5.3.0/24"}


async def test_a_file_rewritten_in_place_is_seen(
    write: Write, store: StaticStore
) -> None:
    async with watching(store) as watcher:
        assert subnets(await watcher.next()) == ALL
        write(GOOD + node(IPS[3], "10.5.4.0/24"))
        assert subnets(await watcher.next()) == ALL | {"10.5.4.0/24"}
        write(GOOD.replace("10.5.3.0", "10.5.9.0"))  # of the same size
        assert subnets(await watcher.next()) == ALL - {"10.5.3.0/24"} | {"10.5.9.0/24"}
    assert store.status().resyncs == 2


async def test_a_file_replaced_by_a_rename_is_seen(
    path: Path, store: StaticStore
) -> None:
    """Of the same size and time."""

    def replace() -> None:
        new = path.with_suffix(".new")
        new.write_text(GOOD.replace("10.5.3.0", "10.5.9.0"))
        times = path.stat()
        os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
        new.rename(path)

    async with watching(store) as watcher:
        await watcher.snapshot()
        replace()
        assert subnets(await watcher.next()) == ALL - {"10.5.3.0/24"} | {"10.5.9.0/24"}


async def test_a_file_rewritten_with_its_old_time_is_seen(
    path: Path, store: StaticStore
) -> None:
    def rewrite() -> None:
        times = path.stat()
        # The clock of a file system may tick seldom.
        while path.stat().st_ctime_ns == times.st_ctime_ns:
            path.write_text(GOOD.replace("10.5.3.0", "10.5.9.0"))
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    async with watching(store) as watcher:
        await watcher.snapshot()
        rewrite()
        assert subnets(await watcher.next()) == ALL - {"10.5.3.0/24"} | {"10.5.9.0/24"}


async def test_a_link_to_another_file_is_seen(tmp_path: Path) -> None:
    """As a Kubernetes ConfigMap changes."""
    link = tmp_path / "link"

    def point_to(content: str, name: str) -> None:
        (tmp_path / name).write_text(content)
        (tmp_path / "new").symlink_to(tmp_path / name)
        (tmp_path / "new").rename(link)

    point_to(GOOD, "one")
    store = StaticStore(link)
    async with watching(store) as watcher:
        await watcher.snapshot()
        point_to(GOOD.replace("10.5.3.0", "10.5.9.0"), "two")
        assert subnets(await watcher.next()) == ALL - {"10.5.3.0/24"} | {"10.5.9.0/24"}
    await store.close()


async def test_reload_does_not_wait_for_a_look(
    write: Write, store: StaticStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staticstore, "POLL", 1e6)
    async with watching(store) as one, watching(store) as two:
        await one.snapshot()
        await two.snapshot()
        write(NETWORK)
        store.reload()
        assert await one.next() == await two.next() == Snapshot(())


async def test_close_does_not_wait_for_a_look(
    store: StaticStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staticstore, "POLL", 1e6)
    events = store.watch()
    await anext(events)
    async with asyncio.timeout(DEADLINE):
        ended = asyncio.create_task(anext(events, None))
        await asyncio.sleep(0)
        await store.close()
        assert await ended is None


async def test_a_half_written_file_is_left_alone(
    write: Write, store: StaticStore
) -> None:
    """Half a list of nodes is a list of nodes; to take it would cut peers off."""
    write(NETWORK + node(IPS[0], "10.5.1.0/24"))
    store.look()
    write(GOOD + node(IPS[3], "10.5.4.0/24"))
    store.look()
    assert store.status().revision == 1
    store.look()
    assert store.status().revision == 2
    async with watching(store) as watcher:
        assert subnets(await watcher.next()) == ALL | {"10.5.4.0/24"}


async def test_a_wrong_new_file_is_refused_once_and_the_old_one_stays(
    path: Path, write: Write, store: StaticStore, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await acquire(store, IPS[0])
    async with watching(store) as watcher:
        await watcher.snapshot()
        write(GOOD + node(IPS[3], "10.6.4.0/24"))
        await eventually(lambda: store.status().error is not None)
        assert "lies outside" in (store.status().error or "")
        assert not store.status().connected
        assert store.status().outage > 0
        store.reload()
        store.reload()
        assert caplog.text.count("keeps its nodes") == 1
        assert await store.renew(lease) == lease

        os.unlink(path)
        await eventually(lambda: "No such file" in (store.status().error or ""))
        store.reload()
        assert caplog.text.count("keeps its nodes") == 2

        write(GOOD + "# the same nodes\n")
        await eventually(lambda: store.status().error is None)
        assert store.status().connected
        assert store.status().outage == 0
        write(NETWORK)
        assert await watcher.next() == Snapshot(())
    assert store.status().resyncs == 1


async def test_a_file_that_cannot_be_read_is_read_again_without_a_change(
    write: Write,
    store: StaticStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is not the file that is wrong."""
    write(GOOD + node(IPS[3], "10.5.4.0/24"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", _too_many_open_files)
        for _ in range(4):
            store.look()
        assert "Too many open files" in (store.status().error or "")
        assert caplog.text.count("keeps its nodes") == 1
    store.look()
    assert (store.status().error, store.status().revision) == (None, 2)


def _too_many_open_files(path: Path) -> bytes:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))


async def test_a_changed_network_waits_for_a_restart(
    write: Write, store: StaticStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write(GOOD + node(IPS[3], "10.5.4.0/24"))
    store.reload()
    assert "restart" not in caplog.text
    write(GOOD.replace("10.5.0.0/16", "10.5.0.0/17"))
    store.reload()
    assert caplog.text.count("restart to use it") == 1
    config = NetworkConfig.parse(await store.network_config())
    assert config.network == network("10.5.0.0/17")


async def test_a_store_nobody_watches_needs_no_task(path: Path) -> None:
    before = asyncio.all_tasks()
    store = StaticStore(path)
    await acquire(store, IPS[0])
    assert asyncio.all_tasks() == before
    await store.close()
