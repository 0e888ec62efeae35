"""EtcdStore keeps the promises of every store, on a real etcd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count

import pytest

from flannelette.control.etcd.store import EtcdStore
from flannelette.control.store import Store
from tests.control.store_contract import StoreContract
from tests.helpers.etcd import Etcd, require_etcd, settled as settled
from tests.helpers.etcdclient import Client
from tests.helpers.storerig import Entry, Rig

require_etcd()

_numbers = count()


class EtcdRig(Rig):
    """One prefix of an etcd that all tests of this module share."""

    def __init__(self, etcd: Etcd, client: Client) -> None:
        self._etcd = etcd
        self._client = client
        self._prefix = f"/contract/{next(_numbers)}"

    def _key(self, key: bytes) -> bytes:
        return f"{self._prefix}/subnets/".encode() + key

    async def make_store(self, public_ip: str) -> Store:
        return EtcdStore(self._etcd.settings(self._prefix))

    async def write_config(self, text: bytes) -> None:
        await self._client.put(f"{self._prefix}/config", text)

    async def put(self, key: bytes, value: bytes, ttl: int | None = None) -> None:
        await self._client.put(self._key(key), value, ttl)

    async def get(self, key: bytes) -> Entry | None:
        stored = await self._client.get(self._key(key))
        return None if stored is None else Entry(stored.value, stored.lease == 0)

    async def delete(self, key: bytes) -> None:
        await self._client.delete(self._key(key))

    async def expire(self, key: bytes) -> None:
        stored = await self._client.get(self._key(key))
        assert stored is not None
        await self._client.revoke(stored.lease)


class TestEtcdStore(StoreContract):
    @pytest.fixture
    async def rig(self, etcd: Etcd) -> AsyncIterator[Rig]:
        async with etcd.client() as client:
            yield EtcdRig(etcd, client)
