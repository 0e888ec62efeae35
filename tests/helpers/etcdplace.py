"""A prefix of its own in an etcd, for the tests of writes and of the watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import count

from flannelette.control.etcd.store import EtcdStore
from flannelette.control.lease import Lease
from tests.helpers.etcd import Etcd
from tests.helpers.etcdclient import Client, Stored
from tests.helpers.etcdproxy import EtcdProxy
from tests.helpers.storerig import IPS, Watcher, attrs_of, network

_numbers = count()

VALUE = attrs_of(IPS[1]).encode()
SUBNET, KEY = "10.5.7.0/24", "10.5.7.0-24"
"""Of a lease that is there, or might be."""


@dataclass
class Place:
    """A prefix of its own, and a store on it."""

    prefix: str
    client: Client
    store: EtcdStore
    """Through the proxy, if there is one."""
    direct: Callable[[], EtcdStore]
    """Opens one more store, by no proxy."""

    async def put(self, *numbers: int, value: bytes = VALUE) -> None:
        """Write 10.5.N.0/24 for each number."""
        for number in numbers:
            await self.client.put(self.key(number), value)

    def key(self, name: str | int) -> str:
        """Of a lease with this name, or of 10.5.N.0/24."""
        name = name if isinstance(name, str) else f"10.5.{name}.0-24"
        return f"{self.prefix}/subnets/{name}"

    async def entries(self) -> dict[str, Stored]:
        """What is stored below the prefix, by the rest of the key."""
        start = f"{self.prefix}/".encode()
        return {
            key.removeprefix(start).decode(): stored
            for key, stored in (await self.client.all()).items()
            if key.startswith(start)
        }

    async def stored(self, lease: Lease) -> Stored:
        return (await self.entries())[f"subnets/{lease.key}"]


def subnets(numbers: range) -> set[IPv4Network]:
    return {network(f"10.5.{number}.0/24") for number in numbers}


@asynccontextmanager
async def placed(etcd: Etcd, proxy: EtcdProxy | None = None) -> AsyncIterator[Place]:
    prefix = f"/place/{next(_numbers)}"
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(etcd.client())

        def opened(server: Etcd | EtcdProxy = etcd) -> EtcdStore:
            store = EtcdStore(server.settings(prefix))
            stack.push_async_callback(store.close)
            return store

        yield Place(prefix, client, opened(proxy or etcd), opened)


async def next_numbers(watcher: Watcher, wanted: int) -> list[int]:
    """The third octets of the next so many events, all of which must be Added."""
    return [
        (await watcher.added()).subnet.network_address.packed[2] for _ in range(wanted)
    ]
