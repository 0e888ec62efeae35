"""Peers of the kernel's VXLAN device come, move and go: V14 to V16, real kernel."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from flannelette.tun.link import Netlink
from flannelette.tun.vxlan import VxlanState
from flannelette.tun.vxlanpeers import VxlanPeer
from tests.helpers.freshnet import ip
from tests.helpers.ns import needs_namespaces
from tests.helpers.vxlandevices import (
    BOTH,
    LAYERS,
    ROUTE,
    STATE,
    B,
    C,
    assert_as_desired,
    peer_routes,
    with_netlink,
)

pytestmark = needs_namespaces


def forgotten(peer: VxlanPeer) -> list[str]:
    return [
        f"neighbour {peer.gateway} removed",
        f"FDB entry {peer.mac} removed",
        f"route {peer.subnet} via {peer.gateway} removed",
    ]


@BOTH
def test_peers_that_leave_are_forgotten_v14_v16(state: VxlanState) -> None:
    async def body(netlink: Netlink) -> None:
        b, c = state.peers
        await netlink.reconcile_vxlan(state)
        alone = replace(state, peers=(c,))
        assert await netlink.reconcile_vxlan(alone) == forgotten(b)
        assert_as_desired(alone)
        none = replace(state, peers=())
        # Also by a daemon that has never known them.
        fresh = Netlink()
        try:
            assert await fresh.reconcile_vxlan(none) == forgotten(c)
        finally:
            await fresh.close()
        assert_as_desired(none)

    with_netlink(body)


def test_a_peers_new_mac_and_address_are_followed_v15() -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(STATE)
        b = replace(B, mac="02:00:00:00:00:22")
        moved = replace(STATE, peers=(b, C))
        assert await netlink.reconcile_vxlan(moved) == [
            *(layer.format(b) for layer in LAYERS),
            f"FDB entry {B.mac} removed",  # flanneld leaves it
        ]
        assert_as_desired(moved)
        b = replace(b, address=IPv4Address("192.0.2.22"))
        moved = replace(STATE, peers=(b, C))
        assert await netlink.reconcile_vxlan(moved) == [LAYERS[1].format(b)]
        assert_as_desired(moved)

    with_netlink(body)


@BOTH
def test_changes_alone_come_to_the_same_as_a_look_at_all(state: VxlanState) -> None:
    async def body(netlink: Netlink) -> None:
        b, c = state.peers
        one = replace(state, peers=(b,))
        await netlink.reconcile_vxlan(one)
        away = replace(b, address=state.local + 40, mac="02:00:00:00:00:44")
        for gone, new, left in (
            ([], [c], (b, c)),
            ([b], [away], (away, c)),
            ([c], [], (away,)),
            ([c], [], (away,)),  # it is gone already
            ([away], [b, c], (b, c)),
            ([b, c], [], ()),
        ):
            await netlink.change_vxlan(state.name, gone, new)
            desired = replace(state, peers=left)
            assert_as_desired(desired)
            assert await netlink.reconcile_vxlan(desired) == []
        ip(f"link delete {state.name}")
        with pytest.raises(OSError, match="there is no device") as caught:
            await netlink.change_vxlan(state.name, [], [b])
        assert caught.value.errno == errno.ENODEV

    with_netlink(body)


def test_a_change_that_fails_does_not_stop_the_others() -> None:
    """The kernel refuses what is its own address for a gateway."""

    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(replace(STATE, peers=()))
        ip("address add 10.5.2.0/32 dev lo")
        with pytest.raises(OSError, match=r"Invalid argument") as caught:
            await netlink.change_vxlan(STATE.name, [], [B, C])
        assert caught.value.__notes__ == ["while routing 10.5.2.0/24 via 10.5.2.0"]
        ip("address del 10.5.2.0/32 dev lo")
        assert await netlink.reconcile_vxlan(STATE) == [ROUTE.format(B)]

    with_netlink(body)


def test_a_peer_that_fails_does_not_stop_the_others() -> None:
    async def body(netlink: Netlink) -> None:
        """The kernel refuses what is its own address for a gateway."""
        ip("address add 10.5.2.0/32 dev lo", "address add 10.5.3.0/32 dev lo")
        d = VxlanPeer(
            IPv4Network("10.5.4.0/24"),
            "02:00:00:00:00:04",
            IPv4Address("192.0.2.4"),
        )
        with pytest.raises(OSError, match="Invalid argument") as caught:
            await netlink.reconcile_vxlan(replace(STATE, peers=(B, C, d)))
        assert caught.value.errno == errno.EINVAL
        assert caught.value.__notes__ == [
            "while routing 10.5.2.0/24 via 10.5.2.0",
            "and 1 others failed",
        ]
        assert peer_routes(STATE) == {"10.5.4.0/24": "10.5.4.0"}

    with_netlink(body)
