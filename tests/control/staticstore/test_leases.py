"""The static store: which files it starts with, and the leases that they give.

It keeps the promises that a read-only store can keep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flannelette.control.errors import ConfigError, LeaseLost, StoreError
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.staticstore import StaticStore
from tests.control.store_contract import ReadContract
from tests.helpers.staticfiles import DUAL_GOOD, GOOD, NETWORK, Write, node
from tests.helpers.storerig import (
    DUAL,
    IPS,
    ReadRig,
    acquire,
    attrs_of,
    dual_attrs_of,
    network,
    subnets as subnets_of,
    watching,
)


class StaticRig(ReadRig):
    def __init__(self, path: Path) -> None:
        self.path = path

    async def make_store(self, public_ip: str) -> StaticStore:
        return StaticStore(self.path)


class TestContract(ReadContract):
    @pytest.fixture
    def rig(self, path: Path) -> ReadRig:
        return StaticRig(path)


# The file at the start.


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
