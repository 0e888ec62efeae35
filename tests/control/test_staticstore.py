"""The static store: the promises that a read-only store can keep."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flannelette.control import staticstore
from flannelette.control.errors import ConfigError, LeaseLost, StoreError
from flannelette.control.lease import Snapshot
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.staticstore import StaticStore
from tests.control.store_contract import (
    DEADLINE,
    IPS,
    ReadContract,
    ReadRig,
    acquire,
    attrs_of,
    eventually,
    network,
    watching,
)
from tests.helpers.staticfiles import (
    DUAL_GOOD,
    GOOD,
    NETWORK,
    node,
)
from tests.helpers.storerig import DUAL, dual_attrs_of, subnets as subnets_of

Write = Callable[[str], None]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a watch's next look come soon."""
    monkeypatch.setattr(staticstore, "POLL", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "peers.toml"
    path.write_text(GOOD)
    return path


@pytest.fixture
async def store(path: Path) -> AsyncIterator[StaticStore]:
    store = StaticStore(path)
    yield store
    await store.close()


@pytest.fixture
def write(path: Path) -> Write:
    """Rewrites the file in place."""

    def write(content: str) -> None:
        path.write_text(content)

    return write


class StaticRig(ReadRig):
    def __init__(self, path: Path) -> None:
        self.path = path

    async def make_store(self, public_ip: str) -> StaticStore:
        return StaticStore(self.path)


class TestContract(ReadContract):
    @pytest.fixture
    def rig(self, path: Path) -> ReadRig:
        return StaticRig(path)


def subnets(event: object) -> set[str]:
    assert isinstance(event, Snapshot)
    return {str(lease.subnet) for lease in event.leases}


ALL = {"10.5.1.0/24", "10.5.2.0/24", "10.5.3.0/24"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "missing required field `network`"),
        ("[network", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        ("a = " + "[" * 100_000, "not TOML"),
        (NETWORK + "[other]", "unknown field `other`"),
        ("network = 5", "Expected `object`"),
        ("[network]", "Network is missing"),
        ('[network]\nNetwork = "10.5.0.0"', "no ADDRESS/LENGTH"),
        (
            '[network]\nNetwork = "10.5.0.0/16"\nSubnetLne = 24',
            "network: unknown member 'SubnetLne'",
        ),
        (
            '[network]\nNetwork = "10.5.0.0/16"\n[network.Backend]\nType="udp"\nx=inf',
            "network: ",
        ),
        (
            '[network]\nNetwork = "10.5.0.0/16"\n[network.Backend]\nx=2026-01-01',
            "network: ",
        ),
        (GOOD + "extra = 1\n", "node 3: Object contains unknown field `extra`"),
        (GOOD + '[[node]]\nsubnet = "10.5.4.0/24"', "node 4: .*`public-ip`"),
        (GOOD + '[[node]]\npublic-ip = "192.0.2.4"', "node 4: .*`subnet`"),
        (GOOD + node("host.example", "10.5.4.0/24"), "node 4: .*host.example"),
        (GOOD + node("2001:db8::1", "10.5.4.0/24"), "node 4: .*2001:db8::1"),
        (GOOD + node("192.0.2.4", "10.5.4.1/24"), "node 4: .*host bits"),
        (GOOD + node("192.0.2.4", "10.5.4.0/32"), "node 4: .*longer than /31"),
        (
            GOOD + node("192.0.2.4", "10.6.4.0/24"),
            "node 4: subnet 10.6.4.0/24 lies outside Network 10.5.0.0/16",
        ),
        (
            GOOD + node("192.0.2.4", "10.0.0.0/8"),
            "node 4: subnet 10.0.0.0/8 lies outside Network 10.5.0.0/16",
        ),
        (
            GOOD + node("192.0.2.1", "10.5.4.0/24"),
            "node 4: public-ip 192.0.2.1 comes twice",
        ),
        (
            GOOD + node("192.0.2.4", "10.5.2.0/24"),
            "node 192.0.2.4: subnet 10.5.2.0/24 overlaps 10.5.2.0/24 of node 192.0.2.2",
        ),
        (
            GOOD + node("192.0.2.4", "10.5.2.128/25"),
            "node 192.0.2.4: .* overlaps 10.5.2.0/24 of node 192.0.2.2",
        ),
        (
            GOOD + node("192.0.2.4", "10.5.0.0/22"),
            "node 192.0.2.1: .* overlaps 10.5.0.0/22 of node 192.0.2.4",
        ),
    ],
)
def test_a_wrong_file_is_refused_at_the_start(
    path: Path, content: str | bytes, message: str
) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message) as caught:
        StaticStore(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_unreadable_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        StaticStore(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="directory"):
        StaticStore(tmp_path)


# Leases.


async def test_a_node_that_is_not_listed_gets_no_lease(store: StaticStore) -> None:
    with pytest.raises(StoreError, match=r"no node has our public IP 192\.0\.2\.8"):
        await acquire(store, IPS[7])


async def test_leases_are_permanent_and_previous_does_not_matter(
    store: StaticStore,
) -> None:
    lease = await acquire(store, IPS[1], previous="10.5.9.0/24")
    assert (lease.subnet, lease.permanent) == (network("10.5.2.0/24"), True)
    assert lease.attrs == attrs_of(IPS[1])


async def test_the_lease_says_what_the_file_says(store: StaticStore) -> None:
    """Our MAC is the file's, since our peers know no other."""
    ours = replace(attrs_of(IPS[1]), backend_data='{"VNI":1,"VtepMAC":"02:ff::"}')
    lease = await store.acquire(ours, NetworkConfig.parse(DUAL), None)
    assert lease.attrs == attrs_of(IPS[1])
    assert await store.renew(replace(lease, attrs=ours)) == lease


async def test_dual_leases(write: Write, store: StaticStore) -> None:
    write(DUAL_GOOD)
    store.reload()
    lease = await acquire(store, IPS[1], config=DUAL)
    assert lease.subnets == subnets_of("10.5.2.0/24", "fd00:5:0:2::/64")
    assert lease.attrs == dual_attrs_of(IPS[1])
    async with watching(store) as watcher:
        snapshot = await watcher.snapshot()
        assert lease in snapshot.leases
        write(DUAL_GOOD.replace("fd00:5:0:2::", "fd00:5:0:9::"))
        store.reload()
        await watcher.snapshot()
    moved = subnets_of("10.5.2.0/24", "fd00:5:0:9::/64")
    assert watcher.leases[moved] == dual_attrs_of(IPS[1])
    with pytest.raises(LeaseLost, match="fd00:5:0:2::/64"):
        await store.renew(lease)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(NETWORK + node(IPS[1], "10.5.2.0/24"), id="gone"),
        pytest.param(NETWORK + node(IPS[0], "10.5.9.0/24"), id="moved"),
        pytest.param(
            NETWORK + node(IPS[1], "10.5.1.0/24") + node(IPS[0], "10.5.2.0/24"),
            id="swapped",
        ),
    ],
)
async def test_a_file_that_changes_our_entry_takes_our_lease(
    write: Write, store: StaticStore, content: str
) -> None:
    lease = await acquire(store, IPS[0])
    write(content)
    store.reload()
    for call in (store.renew, store.reacquire):
        with pytest.raises(LeaseLost, match=r"10\.5\.1\.0/24"):
            await call(lease)


async def test_a_file_that_changes_another_entry_does_not(
    write: Write, store: StaticStore
) -> None:
    lease = await acquire(store, IPS[0])
    write(NETWORK + node(IPS[0], "10.5.1.0/24"))
    store.reload()
    assert await store.renew(lease) == lease


# Reload.


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
