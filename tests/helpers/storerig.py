"""What the contract of the stores needs of a store's test module, and its tools.

A rig is what stands behind the stores of one test; the tools open watches, wait, and
make leases.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from flannelette.control.lease import (
    Added,
    Event,
    Lease,
    LeaseAttrs,
    LeaseFormatError,
    Removed,
    Snapshot,
    Subnets,
    parse_subnet_key,
)
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.store import Store
from tests.helpers.waiting import eventually as eventually

DEADLINE = 20.0
"""Seconds until a condition that must come counts as never coming."""

CONFIG = b'{ "Network": "10.5.0.0/16",\n  "Backend": {"Type": "vxlan"}, "ours": [] }'
"""Ten thousand nodes would fit; white space and a stranger test `verbatim`."""
DUAL = b"""{"Network": "10.5.0.0/16", "EnableIPv6": true,
 "IPv6Network": "fd00:5::/48", "Backend": {"Type": "vxlan"}}"""
"""The same in dual stack."""
IPS = tuple(f"192.0.2.{n}" for n in range(1, 9))
"""The nodes of the suite; a static rig's file must list the first three."""


OpenStore = Callable[[str], Awaitable[Store]]
"""Opens one more store on the rig's data, for the node with this public IP."""


@dataclass(frozen=True)
class Entry:
    """A raw entry in the store."""

    value: bytes
    permanent: bool


class ReadRig(ABC):
    """What stands behind the stores of one test, such as an etcd or a file."""

    @abstractmethod
    async def make_store(self, public_ip: str) -> Store:
        """A new store on the same data, as the daemon of one more node opens it."""


class Rig(ReadRig):
    """A store that others write to as well. Keys are what follows `subnets/`."""

    @abstractmethod
    async def write_config(self, text: bytes) -> None:
        """Write the network configuration."""

    @abstractmethod
    async def put(self, key: bytes, value: bytes, ttl: int | None = None) -> None:
        """Write an entry as a foreign program would: for ttl seconds or for ever."""

    @abstractmethod
    async def get(self, key: bytes) -> Entry | None:
        """The entry, or None where there is none."""

    @abstractmethod
    async def delete(self, key: bytes) -> None:
        """Delete an entry as an operator would; absent is fine."""

    @abstractmethod
    async def expire(self, key: bytes) -> None:
        """Make the lease on this key run out now (etcd: revoke its lease)."""


def attrs_of(public_ip: str) -> LeaseAttrs:
    """A vxlan node's attributes, different for each address."""
    return LeaseAttrs(
        IPv4Address(public_ip), backend_type="vxlan", backend_data=_vtep(public_ip)
    )


def dual_attrs_of(public_ip: str) -> LeaseAttrs:
    """The same node's in dual stack."""
    return replace(
        attrs_of(public_ip),
        public_ipv6=IPv6Address(f"2001:db8::{_last(public_ip):x}"),
        backend_v6_data=_vtep(public_ip),
    )


def _last(public_ip: str) -> int:
    return int(public_ip.rpartition(".")[2])


def _vtep(public_ip: str) -> str:
    return f'{{"VNI":1,"VtepMAC":"02:00:00:00:00:{_last(public_ip):02x}"}}'


def network(text: str) -> IPv4Network:
    return IPv4Network(text)


def subnets(v4: str, v6: str | None = None) -> Subnets:
    return Subnets(IPv4Network(v4), None if v6 is None else IPv6Network(v6))


async def acquire(
    store: Store,
    public_ip: str,
    previous: str | Subnets | None = None,
    config: bytes = CONFIG,
) -> Lease:
    before = subnets(previous) if isinstance(previous, str) else previous
    network = NetworkConfig.parse(config)
    attrs = attrs_of if network.network6 is None else dual_attrs_of
    return await store.acquire(attrs(public_ip), network, before)


class Watcher:
    """Reads one watch in a task, so that a test can wait with a deadline."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self.leases: dict[Subnets, LeaseAttrs] = {}
        """The fold of all events read by next() or until()."""

    @property
    def peers(self) -> dict[IPv4Network, LeaseAttrs]:
        """The fold by IPv4 subnet, for where no two leases have the same."""
        return {subnets.v4: attrs for subnets, attrs in self.leases.items()}

    async def feed(self, store: Store) -> None:
        async for event in store.watch():
            self._queue.put_nowait(event)

    async def next(self) -> Event:
        """The next event."""
        async with asyncio.timeout(DEADLINE):
            event = await self._queue.get()
        match event:
            case Added(lease):
                self.leases[lease.subnets] = lease.attrs
            case Removed(v4, v6):
                self.leases.pop(Subnets(v4, v6), None)
            case Snapshot(leases):
                self.leases = {lease.subnets: lease.attrs for lease in leases}
        return event

    async def until(self, subnets: Iterable[IPv4Network]) -> None:
        """Read on until exactly these subnets are leased."""
        wanted = set(subnets)
        while self.peers.keys() != wanted:
            await self.next()

    async def snapshot(self) -> Snapshot:
        event = await self.next()
        assert isinstance(event, Snapshot)
        return event

    async def added(self) -> Lease:
        event = await self.next()
        assert isinstance(event, Added)
        return event.lease


@asynccontextmanager
async def watching(store: Store) -> AsyncIterator[Watcher]:
    """A watch on the store, cancelled at the end as the agent cancels it."""
    watcher = Watcher()
    task = asyncio.create_task(watcher.feed(store))
    try:
        yield watcher
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def is_lease(key: bytes, value: bytes) -> bool:
    """Would a store take this entry for a lease?"""
    try:
        parse_subnet_key(key.decode())
        LeaseAttrs.decode(value)
    except (UnicodeDecodeError, LeaseFormatError):
        return False
    return True
