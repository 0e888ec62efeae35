"""The forwarder's observer: over all queues, and over TUNs that come and go."""

from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from flannelette.dataplane.forwarder import (
    EVENT,
    Direction,
    EventKind,
    Forwarder,
    Watch,
)
from flannelette.dataplane.underlay import open_underlay
from tests.helpers.bench import drain
from tests.helpers.forwarders import (
    ENDPOINT,
    LOOPBACK,
    fail,
    new_queues,
    new_tun,
    other_node,
    route_to,
    underlay,
    until,
)
from tests.helpers.packets import packet

READS = Watch(kinds=1 << EventKind.READ)


def reads(forwarder: Forwarder) -> list[tuple[int, int]]:
    """Queue and time of the frames that were read since."""
    found = []
    for queue, direction, records, lost in forwarder.watched():
        assert lost == 0
        assert direction is Direction.TX or not records
        found += [(queue, each[0]) for each in EVENT.iter_unpack(records)]
    return found


async def test_every_queue_and_every_tun() -> None:
    loop = asyncio.get_running_loop()
    forwarder = Forwarder(open_underlay(LOOPBACK, 0, 2), "native", "threads")
    forwarder.watch(READS)
    with pytest.raises(OSError, match="busy"):  # though there is no TUN yet
        forwarder.watch(READS)
    with other_node() as peer:
        forwarder.set_routes([route_to(peer)])
        for _ in range(2):
            tun, kernels = new_queues(2)
            before = time.time_ns()
            forwarder.start(tun, ENDPOINT, fail)
            for kernel in kernels:
                await loop.sock_sendall(kernel, packet())
                await asyncio.wait_for(loop.sock_recv(peer, 65536), 10)
            (one, first), (two, second) = reads(forwarder)
            assert (one, two) == (0, 1)
            # The clocks are slewed a little against each other at most.
            assert abs(first - before) < 60e9
            assert first < second
            forwarder.stop()
            for kernel in kernels:
                kernel.close()
    forwarder.unwatch()
    forwarder.close()


async def test_what_a_tun_has_told_and_lost_outlives_it() -> None:
    """Nobody reads in time: what the first TUN's ring held is there, and the rest is
    counted with what the second loses."""
    forwarder = Forwarder(underlay(), "native", "loop")
    forwarder.watch(Watch(snap=65535))
    told: Counter[EventKind] = Counter()
    with other_node() as peer:
        forwarder.set_routes([route_to(peer)])
        for sent in (6000, 4500):
            tun, kernel = new_tun()
            forwarder.start(tun, ENDPOINT, fail)
            before = forwarder.counters(Direction.TX).packets
            for _ in range(sent):
                await asyncio.get_running_loop().sock_sendall(
                    kernel, packet(payload=bytes(400))
                )
                drain(peer)
            await until(partial(forwarded, forwarder, before + sent))
            forwarder.stop()
            kernel.close()
    lost = 0
    for one in forwarder.watched():
        told.update(EventKind(kind) for kind in kinds(one.records))
        lost = one.lost if one.direction is Direction.TX else lost
    assert lost > 0
    assert told.total() + lost == 4 * 10_500
    assert list(forwarder.watched()) == []
    forwarder.close()


def forwarded(forwarder: Forwarder, packets: int) -> bool:
    return forwarder.counters(Direction.TX).packets >= packets


def kinds(records: bytes) -> Iterator[int]:
    at = 0
    while at < len(records):
        fields = EVENT.unpack_from(records, at)
        yield fields[11]
        at += fields[3]


async def test_one_observer_of_a_path_in_c() -> None:
    loop = asyncio.get_running_loop()
    with other_node() as peer:
        for datapath in ("native", "python"):
            forwarder = Forwarder(underlay(), datapath, "threads")
            tun, kernel = new_tun()
            forwarder.set_routes([route_to(peer)])
            forwarder.start(tun, ENDPOINT, fail)
            if datapath == "python":
                with pytest.raises(OSError, match="not supported") as refused:
                    forwarder.watch(READS)
                assert refused.value.errno == errno.ENOTSUP
            else:
                forwarder.watch(READS)
                with pytest.raises(OSError, match="busy"):
                    forwarder.watch(READS)
                forwarder.unwatch()
                forwarder.watch(READS)
                await loop.sock_sendall(kernel, packet())
                await until(partial(reads, forwarder))
            forwarder.close()
            kernel.close()


async def test_an_observer_that_is_refused_at_one_queue_watches_none() -> None:
    tun, kernels = new_queues(2)
    forwarder = Forwarder(open_underlay(LOOPBACK, 0, 2), "native", "threads")
    forwarder.start(tun, ENDPOINT, fail)
    forwarder._paths[1].watch(READS)
    with pytest.raises(OSError, match="busy"):
        forwarder.watch(READS)
    forwarder._paths[1].unwatch()
    forwarder.watch(READS)
    forwarder.unwatch()
    with pytest.raises(OSError, match="Invalid"):
        forwarder.watch(READS._replace(filter=((0, 0, 0, 0),)))
    forwarder.close()
    for kernel in kernels:
        kernel.close()
