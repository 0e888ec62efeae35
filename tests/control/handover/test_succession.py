"""Several who would take over from one daemon."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from flannelette.control.errors import HostError
from flannelette.control.handover.handover import Handover
from flannelette.control.handover.succession import Successors
from flannelette.control.systemd.notify import Notifier

REFUSED = "it hands over to another"


class Empty(Handover):
    """It hands over that there is nothing."""

    def offer(self) -> dict[str, int]:
        return {}


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """The old daemon's end, and that of a new one."""
    with ExitStack() as stack:
        pairs = []
        for _ in range(3):
            pairs.append(socket.socketpair())
            for end in pairs[-1]:
                stack.enter_context(end)
                end.setblocking(False)
        yield pairs


async def said(connection: socket.socket) -> bytes:
    """A line."""
    return await asyncio.wait_for(
        asyncio.get_running_loop().sock_recv(connection, 4096), 5
    )


async def test_one_is_chosen_and_the_others_are_told(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    """Those who wait, those who are ready too late, and those who come too late."""
    told: list[int] = []
    successors = Successors(Empty(Notifier(None)), told.append)
    (first, one), (second, two), (third, three) = pairs
    asking = [
        asyncio.create_task(successors.hand_over(connection))
        for connection in (first, second)
    ]
    assert await said(one) == await said(two) == b".\n"
    one.send(b"go\n")
    assert await said(one) == b"gone\n"
    await asking[0]
    assert len(told) == 1
    assert await said(two) == b'{"error": "it hands over to another"}\n'
    two.send(b"go\n")
    with pytest.raises(HostError, match=REFUSED):
        await asking[1]
    with pytest.raises(HostError, match=REFUSED):
        await successors.hand_over(third)
    with pytest.raises(BlockingIOError):
        three.recv(1)
    assert len(told) == 1
