"""Who has the UDP port that a daemon would need."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from flannelette.control import config
from flannelette.control.backends.backend import Backend
from flannelette.control.backends.hostgw import HostGwBackend
from flannelette.control.backends.udp import UdpBackend
from flannelette.control.backends.vxlan import VxlanBackend
from flannelette.control.doctor.facts import Daemon, Facts, Holder
from flannelette.control.doctor.port import holder
from flannelette.control.interface import External
from flannelette.tun.link import Netlink
from tests.helpers.freshnet import FRESH, in_fresh_net, ip
from tests.helpers.ns import needs_namespaces

HERE = IPv4Address("127.0.0.1")
HERE6 = IPv6Address("::1")


def facts(backend: Backend) -> Facts:
    external = External("lo", 1, 1500, HERE, HERE, HERE6, HERE6)
    given = config.parse([], {})
    return Facts(given, Daemon(None), backend=backend, external=external)


# ---- processes -----------------------------------------------------------------------


def bound(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    return sock


@pytest.fixture(params=["127.0.0.1", "0.0.0.0", "::"])
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that this process has."""
    with bound(request.param) as sock:
        yield sock.getsockname()[1]


@pytest.mark.parametrize("kernel", [False, True])
def test_a_process_is_named(taken: int, kernel: bool) -> None:
    found = holder(facts(VxlanBackend(port=taken, kernel=kernel)), {})
    assert found is not None
    assert found.who.endswith(f"(pid {os.getpid()})")
    assert found.stop.startswith(f"kill {os.getpid()} && ")


def test_another_address_is_of_no_concern() -> None:
    with bound("127.0.0.2") as sock:
        port = sock.getsockname()[1]
        assert holder(facts(UdpBackend(port)), {}) is None
    assert holder(facts(HostGwBackend()), {}) is None


@needs_namespaces
def test_an_address_of_ipv6_is_of_concern_where_it_is_used() -> None:
    async def body() -> None:
        ip("link set lo up")
        with bound("::1") as sock:
            port = sock.getsockname()[1]
            assert holder(facts(VxlanBackend(port=port)), {}) is None
            assert holder(facts(VxlanBackend(port=port, ipv6=True)), {}) is not None

    in_fresh_net(body)


def test_without_an_interface_or_a_backend_nothing_is_known(taken: int) -> None:
    known = facts(UdpBackend(taken))
    assert holder(replace(known, external=None), {}) is None
    assert holder(replace(known, backend=None), {}) is None


# ---- the kernel's devices ------------------------------------------------------------


def beside(device: str, backend: Backend, *, up: bool = True) -> Holder | None:
    """Where there is a VXLAN device of that name, on flanneld's port, and another that
    is down, and so does not have it."""

    async def body() -> Holder | None:
        ip(*FRESH, "link add flannel.9 type vxlan id 9 dev fl0 dstport 8472")
        ip(f"link add {device} type vxlan id 1 dev fl0 dstport 8472")
        if up:
            ip("link set fl0 up", f"link set {device} up")
        netlink = Netlink()
        try:
            return holder(facts(backend), await netlink.vxlan_ports())
        finally:
            await netlink.close()

    return in_fresh_net(body)


@needs_namespaces
def test_a_device_of_flanneld_s_is_to_be_deleted() -> None:
    found = beside("flannel.1", VxlanBackend())
    assert found is not None
    assert "device flannel.1" in found.who
    assert found.stop == "ip link delete flannel.1"


@needs_namespaces
def test_another_s_device_is_not() -> None:
    """Cilium has the same port."""
    found = beside("cilium_vxlan", VxlanBackend())
    assert found is not None
    assert "device cilium_vxlan" in found.who
    assert found.stop == "ip -details link show cilium_vxlan"


@needs_namespaces
@pytest.mark.parametrize(
    ("backend", "up"),
    [
        (VxlanBackend(port=4789), True),
        (VxlanBackend(), False),
        (VxlanBackend(kernel=True), True),
    ],
    ids=["another-port", "down", "taken-over"],
)
def test_a_device_that_is_in_nobody_s_way(backend: Backend, up: bool) -> None:
    assert beside("flannel.1", backend, up=up) is None


@needs_namespaces
def test_who_cannot_be_seen_is_not_named() -> None:
    """In another PID namespace, or another user's."""

    async def body() -> Holder | None:
        ip(*FRESH, "link add flannel.1 type vxlan id 1 dev fl0 dstport 8472")
        ip("link set fl0 up", "link set flannel.1 up")
        return holder(facts(VxlanBackend()), {})

    found = in_fresh_net(body)
    assert found is not None
    assert "cannot be seen" in found.who
