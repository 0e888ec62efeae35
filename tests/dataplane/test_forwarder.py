"""The forwarder: routes and counters outlive the TUN, and nothing leaks."""

from __future__ import annotations

import asyncio
import os
import socket
from ipaddress import IPv4Address

import pytest

from flannelette.dataplane.forwarder import NO_COUNTERS, Direction, Forwarder
from flannelette.tun.device import TunDevice
from tests.helpers.packets import MTU, ROUTE, TUN_ADDRESS, packet


def new_tun() -> tuple[TunDevice, socket.socket]:
    tun, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    tun.setblocking(False)
    kernel.setblocking(False)
    return TunDevice(tun.detach(), "flannel0"), kernel


def underlay() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def fail(error: OSError) -> None:
    raise AssertionError(error)


@pytest.mark.parametrize("driver", ["threads", "loop"])
@pytest.mark.parametrize("datapath", ["native", "python"])
async def test_routes_and_counters_outlive_the_tun(datapath: str, driver: str) -> None:
    loop = asyncio.get_running_loop()
    descriptors = set(os.listdir("/proc/self/fd"))
    with underlay() as peer:
        address, port = peer.getsockname()
        route = ROUTE._replace(address=int(IPv4Address(address)), port=port)
        forwarder = Forwarder(underlay(), datapath, driver)
        assert forwarder.counters(Direction.TX) == NO_COUNTERS
        forwarder.set_routes([route])
        for turn in (1, 2):
            tun, kernel = new_tun()
            forwarder.start(tun, MTU, TUN_ADDRESS, fail)
            await loop.sock_sendall(kernel, packet())
            got = await asyncio.wait_for(loop.sock_recv(peer, 65536), 10)
            assert got == packet(ttl=63)
            forwarder.stop()
            forwarder.stop()
            assert forwarder.counters(Direction.TX).packets == turn
            kernel.close()
        assert forwarder.routes == [route]
        forwarder.del_routes([route])
        assert forwarder.routes == []
        forwarder.close()
    assert set(os.listdir("/proc/self/fd")) == descriptors


async def test_routes_change_while_forwarding() -> None:
    loop = asyncio.get_running_loop()
    tun, kernel = new_tun()
    forwarder = Forwarder(underlay(), "native", "threads")
    forwarder.start(tun, MTU, TUN_ADDRESS, fail)
    with underlay() as one, underlay() as two, kernel:
        for peer in (one, two, one):
            address, port = peer.getsockname()
            forwarder.set_routes(
                [ROUTE._replace(address=int(IPv4Address(address)), port=port)]
            )
            await loop.sock_sendall(kernel, packet())
            await asyncio.wait_for(loop.sock_recv(peer, 65536), 10)
        forwarder.del_routes([ROUTE])
        await loop.sock_sendall(kernel, packet())
        answer = await asyncio.wait_for(loop.sock_recv(kernel, 65536), 10)
        assert answer[20:22] == b"\3\0"
        forwarder.close()
