"""The carrier on a real kernel, which may refuse what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network

from flannelette.control.backends.backend import Routes
from flannelette.dataplane.forwarder import Route
from flannelette.tun.link import Netlink
from tests.helpers.freshnet import in_fresh_net, ip, shown
from tests.helpers.kernelcarriers import (
    DATA,
    DIRECT,
    ELSEWHERE,
    ME,
    ME6,
    MY_DATA,
    PEER,
    PEER6,
    SUBNET,
    SUBNET6,
    VXLAN,
    lease,
    make,
)
from tests.helpers.ns import needs_namespaces

pytestmark = needs_namespaces

INDEX = 7
"""Of eth0: namespaces may be born with some interfaces."""


@asynccontextmanager
async def wired() -> AsyncIterator[Netlink]:
    """With an interface in the networks of the peer."""
    ip(
        f"link add name eth0 index {INDEX} type veth peer name wire0",
        "link set eth0 up",
        "link set wire0 up",
        f"address add {ME}/24 dev eth0",
        f"address add {ME6}/64 dev eth0 nodad",
    )
    netlink = Netlink()
    try:
        yield netlink
    finally:
        await netlink.close()


def test_a_peer_that_is_direct_no_more_is_a_vxlan_peer() -> None:
    """On the real kernel, which refuses an IPv6 route to a gateway that is routed
    elsewhere: as after a restart without DirectRouting."""

    async def body() -> None:
        async with wired() as netlink:
            for members, device in ((DIRECT, "eth0"), (VXLAN, "flannel{}.7")):
                carrier, plan = make(netlink, "vxlan", members, INDEX)
                await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
                peer = lease("vxlan", PEER, PEER6, DATA)
                carrier.apply([], plan.backend.routes(peer))
                await carrier.reconcile()
                for version, subnet in (("", SUBNET), ("-v6", SUBNET6)):
                    routes = shown(f"-{subnet.version} route show {subnet}")
                    assert [it["dev"] for it in routes] == [device.format(version)]

    in_fresh_net(body)


def test_what_a_lease_leaves_that_another_one_needs_stays() -> None:
    """A node that has come back with another public IP: its old lease expires. One
    that has come back with a smaller subnet has the same base."""
    elsewhere = IPv4Network("10.5.9.0/24")
    smaller = IPv4Network("10.5.2.0/25")

    async def body() -> None:
        async with wired() as netlink:
            carrier, plan = make(netlink, "vxlan", VXLAN, INDEX)
            await carrier.start(lease("vxlan", ME, ME6, MY_DATA))
            old = plan.backend.routes(lease("vxlan", PEER, PEER6, DATA))
            mac = old[SUBNET].mac
            new: Routes = {elsewhere: Route.to(elsewhere, ELSEWHERE, 8472, mac)}
            new[smaller] = Route.to(smaller, ELSEWHERE, 8472, mac + 1)
            carrier.apply([], new | old)
            await carrier.reconcile()
            carrier.apply(list(old), {})
            assert await carrier.reconcile() == []
            assert not shown(f"route show {SUBNET}")
            # All is looked at again: nothing was lost.
            assert await carrier.reconcile() == []

    in_fresh_net(body)
