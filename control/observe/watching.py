"""Watching, on the daemon's side: the operator socket's `watch`.

Every PERIOD what the fast path has written for its observer is taken from the rings of
all queues and sent as a round (protocol.py). No Python runs per packet. A client
that reads slowly holds up the next round, so the rings fill, and what finds no room is
lost and counted there; forwarding waits for nobody.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from typing import Protocol

import msgspec

from flannelette.control.backends.vxlan import VxlanBackend
from flannelette.control.errors import HostError, one_line
from flannelette.control.node import Node
from flannelette.control.observe.protocol import HEADER, Own, Request
from flannelette.control.plan import Plan
from flannelette.dataplane.forwarder import Direction, Told, Watch

PERIOD = 0.02
"""Seconds between two rounds."""
_LAST_ROUNDS = 8
"""More than what a ring holds: a round takes at most 1 MiB from each."""

Ring = tuple[int, Direction]
"""Of which queue and direction."""


class Watchable(Protocol):
    """What a Forwarder offers to an observer."""

    def watch(self, watch: Watch) -> None:
        """Begin. Raises OSError: EBUSY when somebody watches, EINVAL for a filter that
        is no program, ENOTSUP for the path in Python."""

    def unwatch(self) -> None:
        """End."""

    def watched(self) -> Iterable[Told]:
        """What was told since."""


_REFUSALS = {
    errno.EBUSY: "somebody watches already",
    errno.EINVAL: "the filter is no program",
    errno.ENOTSUP: "what runs with --datapath=python cannot be watched",
}


def watch_node(
    plan: Plan | None, node: Node | None, argument: str, enough: asyncio.Event
) -> AsyncGenerator[bytes]:
    """The operator socket's stream, for the node as it is now. Raises HostError."""
    if plan is None or node is None:
        raise HostError("the node is not ready yet")
    carrier, port = node.carrier, plan.backend.port
    if carrier.forwarder is None or port is None:
        raise HostError("the kernel carries the packets: there is nothing to watch")
    if carrier.device is None:
        raise HostError("the TUN is lost, and not yet replaced")
    external = plan.external
    own = Own(
        device=carrier.device,
        mtu=plan.mtu,
        address=str(external.address),
        address6=str(external.address6) if external.address6 else None,
        port=port,
        vxlan=isinstance(plan.backend, VxlanBackend),
    )
    return watch(carrier.forwarder, own, argument, enough)


async def watch(
    forwarder: Watchable, own: Own, argument: str, enough: asyncio.Event
) -> AsyncGenerator[bytes]:
    """The answer's line, and then its rounds, until the client has heard enough; then
    what the rings still hold. Raises HostError before all that."""
    wanted = _wanted(argument)
    try:
        forwarder.watch(wanted)
    except OSError as error:
        raise HostError(_REFUSALS.get(error.errno or 0, one_line(error))) from None
    try:
        lost: dict[Ring, int] = {}
        yield msgspec.json.encode(own) + b"\n"
        while not enough.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(PERIOD):
                    await enough.wait()
            if chunks := _round(forwarder, lost):
                yield chunks
        for _ in range(_LAST_ROUNDS):
            if chunks := _round(forwarder, lost):
                yield chunks
    finally:
        forwarder.unwatch()


def _wanted(argument: str) -> Watch:
    try:
        request = msgspec.json.decode(argument, type=Request)
    except msgspec.MsgspecError as error:
        raise HostError(f"the request is not understood: {error}") from None
    return Watch(tuple(request.filter), request.snap, request.kinds)


def _round(forwarder: Watchable, lost: dict[Ring, int]) -> bytes:
    """The chunks of what there is now; `lost` is what the client knows to be lost."""
    found: list[Told] = []
    for told in forwarder.watched():
        ring = told.queue, told.direction
        if told.records or told.lost != lost.get(ring, 0):
            found.append(told)
        lost[ring] = told.lost
    parts: list[bytes] = []
    for place, told in enumerate(found, start=1):
        queue, direction, records, total = told
        more = place < len(found)
        parts += (HEADER.pack(queue, direction, more, len(records), total), records)
    return b"".join(parts)
