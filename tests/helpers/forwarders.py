"""A forwarder between pretended TUNs and sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address

from flannelette.dataplane.forwarder import Endpoint
from flannelette.dataplane.underlay import Underlay, open_underlay
from flannelette.native.api import Route
from flannelette.tun.device import TunDevice
from tests.helpers.packets import MTU, ROUTE, TUN_ADDRESS

LOOPBACK = IPv4Address("127.0.0.1")
ENDPOINT = Endpoint(TUN_ADDRESS, MTU)


def new_tun() -> tuple[TunDevice, socket.socket]:
    device, (kernel,) = new_queues(1)
    return device, kernel


def new_queues(
    count: int, unsteered: OSError | None = None
) -> tuple[TunDevice, list[socket.socket]]:
    """A pretended TUN of so many queues, and the kernel's side of each."""
    fds, kernels = [], []
    for _ in range(count):
        tun, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        tun.setblocking(False)
        kernel.setblocking(False)
        fds.append(tun.detach())
        kernels.append(kernel)
    return TunDevice(tuple(fds), "flannel0", unsteered=unsteered), kernels


def underlay() -> Underlay:
    return open_underlay(LOOPBACK, 0)


def other_node() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def fail(error: OSError) -> None:
    raise AssertionError(error)


def route_to(peer: socket.socket) -> Route:
    address, port = peer.getsockname()
    return ROUTE._replace(address=int(IPv4Address(address)), port=port)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - counters and threads tell nobody
            await asyncio.sleep(0.005)
