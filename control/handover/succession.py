"""The two parts that a daemon plays in a take-over (takeover.py), while it runs.

Successors are those who would take over from us: all of them get what there is to hand
over, the first that is ready takes over, and the others are told so.

Succession is ours to the daemon before. It is one task that waits for what comes first,
that we are ready to forward or that the daemon before ends, and stays until we end: for
as long as it does, we listen in its place. Until that, from before the daemon before is
told to let go, no other daemon may begin to listen there. Or one that is started in
between would find nobody, listen, and be taken for the one that has our place.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

from flannelette.control.errors import HostError
from flannelette.control.handover import takeover
from flannelette.control.handover.handover import Handover
from flannelette.control.handover.takeover import Predecessor
from flannelette.control.operator.place import starting_alone
from flannelette.control.taskgroup import TaskGroup

_TO_ANOTHER = "it hands over to another"


class Successors:
    """Who would take over from us."""

    def __init__(self, handover: Handover, let_go: Callable[[int], None]) -> None:
        """`let_go` is called once, with the pid of who takes over: when it returns,
        nothing of ours forwards, and we end soon."""
        self._handover = handover
        self._let_go = let_go
        self._asking: set[socket.socket] = set()
        self._taken = False

    async def hand_over(self, connection: socket.socket) -> None:
        """To whoever is at the other end, and to one only; a server.Talk. Raises
        HostError, OSError."""

        def end(pid: int) -> None:
            self._check()
            self._taken = True
            self._let_go(pid)
            for other in self._asking - {connection}:
                takeover.refuse(other, _TO_ANOTHER)

        self._check()
        self._asking.add(connection)
        try:
            await takeover.hand_over(connection, self._handover.offer(), end)
        finally:
            self._asking.discard(connection)

    def _check(self) -> None:
        if self._taken:
            raise HostError(_TO_ANOTHER)


class Succession:
    """Ours, to the daemon before."""

    def __init__(
        self,
        handover: Handover,
        before: Predecessor,
        path: Path,
        listening: Callable[[], AbstractAsyncContextManager[None]],
        go_on: Callable[[], None],
    ) -> None:
        """`listening`: to listen at path, while no other begins to. `go_on` is called
        then, if we do not forward yet."""
        self._handover = handover
        self._before = before
        self._path = path
        self._listening = listening
        self._go_on = go_on
        self._due = asyncio.Event()
        """We are to forward, or the daemon before has ended."""
        self._wanted = False
        self._ours = asyncio.Event()
        """Nobody else forwards."""

    async def complete(self) -> None:
        """Return once the daemon before forwards no more; run() fails if it goes on."""
        self._wanted = True
        self._due.set()
        await self._ours.wait()

    async def run(self) -> None:
        """Until cancelled. If the daemon before ends unasked, forward and listen in its
        place at once. Raises HostError, OSError."""
        async with AsyncExitStack() as place, TaskGroup() as tasks:
            ended = tasks.create_task(self._until_it_ends(), name="before")
            await self._due.wait()
            async with starting_alone(self._path):
                if self._wanted:
                    await self._ask(ended)
                await ended
                await place.enter_async_context(self._listening())
            if not self._handover.forwards:
                self._go_on()
            self._ours.set()
            await asyncio.Event().wait()

    async def _until_it_ends(self) -> None:
        await self._before.ended()
        self._due.set()

    async def _ask(self, ended: asyncio.Task[None]) -> None:
        if await self._handover.succeed():
            self._ours.set()
            return
        await asyncio.wait([ended], timeout=takeover.PATIENCE)
        if not ended.done():
            raise HostError("the daemon before neither hands over nor ends")
