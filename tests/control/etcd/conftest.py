"""Servers that tests of several files here talk to, and prefixes of their own there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.helpers.etcd import Etcd, running_etcd
from tests.helpers.etcdplace import Place, placed
from tests.helpers.etcdproxy import EtcdProxy


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with running_etcd(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """One that the test may stop, freeze and wipe."""
    with running_etcd(tmp_path) as etcd:
        yield etcd


@pytest.fixture
async def place(etcd: Etcd) -> AsyncIterator[Place]:
    async with placed(etcd) as place:
        yield place


@pytest.fixture
async def proxy(etcd: Etcd) -> AsyncIterator[EtcdProxy]:
    async with EtcdProxy(etcd) as proxy:
        yield proxy


@pytest.fixture
async def proxied(etcd: Etcd, proxy: EtcdProxy) -> AsyncIterator[Place]:
    """Its store is behind the proxy."""
    async with placed(etcd, proxy) as place:
        yield place
