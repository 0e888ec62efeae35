"""A prefix of its own in an etcd, for the tests of the watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import count

from flannelette.control.etcd.store import EtcdStore
from tests.helpers.etcd import Etcd
from tests.helpers.etcdclient import Client
from tests.helpers.etcdproxy import EtcdProxy
from tests.helpers.storerig import IPS, Watcher, attrs_of, network

_numbers = count()

VALUE = attrs_of(IPS[1]).encode()


@dataclass
class Place:
    """A prefix of its own, and a store on it."""

    prefix: str
    client: Client
    store: EtcdStore

    async def put(self, *numbers: int, value: bytes = VALUE) -> None:
        """Write 10.5.N.0/24 for each number."""
        for number in numbers:
            await self.client.put(self.key(number), value)

    def key(self, number: int) -> str:
        return f"{self.prefix}/subnets/10.5.{number}.0-24"


def subnets(numbers: range) -> set[IPv4Network]:
    return {network(f"10.5.{number}.0/24") for number in numbers}


@asynccontextmanager
async def placed(etcd: Etcd, proxy: EtcdProxy | None = None) -> AsyncIterator[Place]:
    prefix = f"/watch/{next(_numbers)}"
    store = EtcdStore((proxy or etcd).settings(prefix))
    try:
        async with etcd.client() as client:
            yield Place(prefix, client, store)
    finally:
        await store.close()


async def next_numbers(watcher: Watcher, wanted: int) -> list[int]:
    """The third octets of the next so many events, all of which must be Added."""
    return [
        (await watcher.added()).subnet.network_address.packed[2] for _ in range(wanted)
    ]
