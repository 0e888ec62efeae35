"""Many flows at once between pods, each packet numbered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from select import EPOLLIN, epoll

from tests.helpers.lab import Lab

SO_RCVBUFFORCE = 33
ROUND = 20
"""Packets of each flow between two pauses: fewer than a queue of the TUN holds."""
PAUSE = 0.2
"""Seconds to wait, at the most, for the packets of a round: some may be lost."""


@dataclass
class Flow:
    """Numbered datagrams from one address to another."""

    sender: socket.socket
    receiver: socket.socket
    numbers: list[int] = field(default_factory=list)
    """What arrived, in the order of arrival."""


def addresses(it: Lab, number: int, count: int) -> list[str]:
    """Give a pod more addresses; all that it has, from the second on."""
    first = it.pods[number].address
    more = [str(first + 1 + index) for index in range(count)]
    it.rig.ip(
        it.pods[number].ns, *(f"address add {address}/24 dev eth0" for address in more)
    )
    return more


def open_flows(
    it: Lab, stack: ExitStack, pairs: Iterable[tuple[int, int]], count: int
) -> list[Flow]:
    """`count` connections for each pair of hosts, each between two addresses of its own
    and with a flow each way; the sockets are the stack's."""
    pairs = list(pairs)
    own = {n: addresses(it, n, count) for n in {n for pair in pairs for n in pair}}
    flows = []
    for one, other in pairs:
        for here, there in zip(own[one], own[other], strict=True):
            near = stack.enter_context(it.socket_in(it.pods[one].ns))
            far = stack.enter_context(it.socket_in(it.pods[other].ns))
            near.bind((here, 0))
            far.bind((there, 0))
            near.connect(far.getsockname())
            far.connect(near.getsockname())
            for sock in (near, far):
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
            _introduce(near, far)
            flows += [Flow(near, far), Flow(far, near)]
    return flows


def _introduce(near: socket.socket, far: socket.socket) -> None:
    """A packet that waited for a neighbour's address may be overtaken by the next, in
    the kernel: so all neighbours are known before the order is looked at."""
    for sender, receiver in (near, far), (far, near):
        sender.send(b"hello")
        assert receiver.recv(64) == b"hello"


def exchange(flows: list[Flow], each: int) -> None:
    """Send so many packets through every flow, all at once; fills in `numbers`."""
    done = threading.Event()
    collecting = threading.Thread(target=_collect, args=[flows, done])
    collecting.start()
    try:
        for start in range(0, each, ROUND):
            for number in range(start, min(start + ROUND, each)):
                for flow in flows:
                    flow.sender.send(number.to_bytes(8, "big"))
            deadline = time.monotonic() + PAUSE
            while time.monotonic() < deadline and not all(
                flow.numbers and flow.numbers[-1] >= start for flow in flows
            ):
                time.sleep(0.001)
    finally:
        done.set()
        collecting.join()


def _collect(flows: list[Flow], done: threading.Event) -> None:
    by_fd = {flow.receiver.fileno(): flow for flow in flows}
    with epoll() as poller:
        for fd in by_fd:
            poller.register(fd, EPOLLIN)
        while True:
            ready = poller.poll(PAUSE)
            if not ready and done.is_set():
                return
            for fd, _ in ready:
                data = by_fd[fd].receiver.recv(64)
                by_fd[fd].numbers.append(int.from_bytes(data, "big"))
