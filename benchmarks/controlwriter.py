"""A process that writes leases into etcd as many nodes would:

    python -m flannelette.benchmarks.controlwriter NAMESPACE URL

It reads commands from stdin, one JSON document a line, and answers each by a line. All
its sockets are of the namespace. Times are Unix time, seconds.

    {"do": "begin", "network": ..., "patience": s} -> {}      once etcd answers
    {"do": "put", "key": ..., "value": ...}       -> {}
    {"do": "fill", "backend": ..., "peers": n}    -> {"seconds": s}
    {"do": "renew"}                               -> {"seconds": s}   all of fill's
    {"do": "set", "index": n, "value": ...}       -> {"started": t}   one of them
    {"do": "remove", "index": n}                  -> {"started": t}   likewise
    {"do": "clear"}                               -> {"started": t}   the others at once
    {"do": "churn", "daemons": n}                 -> as Churn says

A peer is a key that lives by an etcd lease, as a node's is; those of fill share one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address
from typing import Any

from flannelette.benchmarks import join
from flannelette.benchmarks.netns import inside
from flannelette.control.errors import StoreUnavailable
from flannelette.control.etcd.channel import EtcdChannel, EtcdSettings
from flannelette.control.etcd.store import EtcdStore
from flannelette.control.lease import Added, LeaseAttrs, Removed, Snapshot
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.store import LEASE_TTL

AT_ONCE = 32
"""Calls under way."""
WATCHERS = 5
PATIENCE = 20.0
"""Seconds until a watch must have heard of all."""
_HEX = 16


class Writer:
    """What the commands do; each is a method by that name."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._channel = EtcdChannel(settings)
        self._subnets = settings.key("subnets") + b"/"
        self._network = b""
        self._grant = 0
        self._peers: list[tuple[bytes, bytes]] = []
        """Key and value."""
        self._revisions: list[int] = []
        """Of the peers' last writes; 0: it is removed."""
        self._own: dict[int, int] = {}
        """Etcd leases of peers that were set by themselves."""

    async def begin(self, network: str, patience: float) -> dict[str, Any]:
        deadline = time.monotonic() + patience
        self._network = network.encode()
        while True:
            try:
                await self._channel.put(
                    self._settings.key("config"), self._network, 0, 0
                )
                return {}
            except StoreUnavailable:
                if time.monotonic() >= deadline:
                    raise

    async def put(self, key: str, value: str) -> dict[str, Any]:
        written = await self._put(key.encode(), value.encode(), 0, 0)
        assert written, f"{key} is there"
        return {}

    async def fill(self, backend: str, peers: int) -> dict[str, Any]:
        leases = [peer.lease for peer in join.make_peers(backend, peers)]
        self._peers = [(it.key.encode(), it.attrs.encode()) for it in leases]
        self._revisions, self._own = [0] * peers, {}
        self._grant, _ = await self._channel.grant(LEASE_TTL)
        return await self.renew()

    async def renew(self) -> dict[str, Any]:
        started = time.time()
        await _each(self._write(index) for index in range(len(self._peers)))
        return {"seconds": time.time() - started}

    async def set(self, index: int, value: str) -> dict[str, Any]:
        if index not in self._own:
            self._own[index], _ = await self._channel.grant(LEASE_TTL)
        key, _ = self._peers[index]
        self._peers[index] = key, value.encode()
        started = time.time()
        await self._write(index)
        return {"started": started}

    async def remove(self, index: int) -> dict[str, Any]:
        started = time.time()
        await self._channel.revoke(self._own.pop(index))
        self._revisions[index] = 0
        return {"started": started}

    async def clear(self) -> dict[str, Any]:
        started = time.time()
        await self._channel.revoke(self._grant)
        return {"started": started}

    async def churn(self, daemons: int) -> dict[str, Any]:
        return await _Churn(self._settings, self._network).run(daemons)

    async def _write(self, index: int) -> None:
        key, value = self._peers[index]
        grant = self._own.get(index, self._grant)
        self._revisions[index] = await self._put(
            key, value, grant, self._revisions[index]
        )

    async def _put(self, key: bytes, value: bytes, grant: int, guard: int) -> int:
        revision = await self._channel.put(self._subnets + key, value, grant, guard)
        assert revision is not None, f"{key!r} is not as we wrote it"
        return revision


class _Churn:
    """Daemons that come, renew, end, and come again, each with a store of its own; and
    watches beside them, which must hear of it all.

    Answers with `joins`, the seconds that each took; `seconds` for all of it; `leases`,
    the public IP by subnet; and `deaf`, how many watches have another idea of them."""

    def __init__(self, settings: EtcdSettings, network: bytes) -> None:
        self._settings = settings
        self._network = NetworkConfig.parse(network)
        self._joins: list[float] = []
        self._leases: dict[str, str] = {}

    async def run(self, daemons: int) -> dict[str, Any]:
        watched: list[dict[str, str]] = [{} for _ in range(WATCHERS)]
        watches = [asyncio.create_task(self._watch(leases)) for leases in watched]
        started = time.time()
        await _each(
            self._live(join.PUBLIC[-2 - number], _HEX + number)
            for number in range(daemons)
        )
        seconds, deadline = time.time() - started, time.time() + PATIENCE
        while time.time() < deadline and self._deaf(watched):  # noqa: ASYNC110 - it is polled, for there is no end to a watch
            await asyncio.sleep(0.01)
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        return {
            "joins": self._joins,
            "seconds": seconds,
            "leases": self._leases,
            "deaf": self._deaf(watched),
        }

    def _deaf(self, watched: Iterable[dict[str, str]]) -> int:
        ours = self._leases.items()
        return sum(not ours <= leases.items() for leases in watched)

    async def _live(self, public: IPv4Address, mac: int) -> None:
        """A start, a renewal, an end, and a start that finds the lease again."""
        data = f'{{"VNI":1,"VtepMAC":"06:00:00:00:{mac >> 8:02x}:{mac & 255:02x}"}}'
        attrs = LeaseAttrs(public, backend_type="vxlan", backend_data=data)
        for _ in range(2):
            store = EtcdStore(self._settings)
            try:
                started = time.time()
                lease = await store.acquire(attrs, self._network, None)
                self._joins.append(time.time() - started)
                await store.renew(lease)
            finally:
                await store.close()
            before = self._leases.setdefault(str(lease.subnet), str(public))
            assert before == str(public), f"{lease.subnet} has two holders"

    async def _watch(self, leases: dict[str, str]) -> None:
        store = EtcdStore(self._settings)
        try:
            async for event in store.watch():
                match event:
                    case Added(lease):
                        leases[str(lease.subnet)] = str(lease.attrs.public_ip)
                    case Removed(subnet):
                        leases.pop(str(subnet), None)
                    case Snapshot(found):
                        leases.clear()
                        for lease in found:
                            leases[str(lease.subnet)] = str(lease.attrs.public_ip)
        finally:
            await store.close()


async def _each(calls: Iterable[Awaitable[None]]) -> None:
    """Await them all, AT_ONCE at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(call: Awaitable[None]) -> None:
        async with room:
            await call

    async with asyncio.TaskGroup() as tasks:
        for call in calls:
            tasks.create_task(one(call))


def main() -> None:
    namespace, url = sys.argv[1:]
    with inside(namespace):  # gRPC's threads, too, begin there
        _serve(EtcdSettings((url,)))


def _serve(settings: EtcdSettings) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        writer: Writer | None = None
        for line in sys.stdin:
            command = json.loads(line)
            writer = writer or Writer(settings)
            call: Callable[..., Any] = getattr(writer, command.pop("do"))
            print(json.dumps(runner.run(call(**command))), flush=True)


if __name__ == "__main__":
    main()
