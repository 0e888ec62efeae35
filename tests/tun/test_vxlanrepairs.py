"""What was repaired before something else could not be, on the real kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from flannelette.tun.link import Netlink
from flannelette.tun.repairs import made_before
from flannelette.tun.vxlan import VxlanState
from tests.helpers.freshnet import ip
from tests.helpers.ns import needs_namespaces
from tests.helpers.vxlandevices import BOTH, LAYERS, ROUTE, STATE, B, C, with_netlink

pytestmark = needs_namespaces


@BOTH
def test_an_underlay_that_has_shrunk_is_named_and_hides_no_repair(
    state: VxlanState,
) -> None:
    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(state)
        peer = state.peers[0]
        ip(
            "link set eth0 mtu 1400",
            f"link set {state.name} mtu 1300",
            f"neighbour del {peer.gateway} dev {state.name}",
        )
        room = 1350 if state.local.version == 4 else 1330
        for repairs in ([LAYERS[0].format(peer)], []):
            with pytest.raises(OSError, match="Invalid argument") as caught:
                await netlink.reconcile_vxlan(state)
            assert made_before(caught.value) == repairs
            assert caught.value.__notes__ == [
                f"while setting the MTU of {state.name} to {state.mtu}",
                f"eth0 has an MTU of 1400, which leaves room for {room}: restart if it "
                "has shrunk, else lower Backend.MTU",
            ]
        assert await netlink.reconcile_vxlan(replace(state, mtu=room)) == [
            f"MTU changed from 1300 to {room}"
        ]

    with_netlink(body)


def test_what_other_peers_needed_is_told_with_the_failure_of_one() -> None:
    """The kernel refuses what is its own address for a gateway."""

    async def body(netlink: Netlink) -> None:
        await netlink.reconcile_vxlan(STATE)
        ip(
            "address add 10.5.4.0/32 dev lo",
            f"route del {C.subnet} dev {STATE.name}",
            f"neighbour del {B.gateway} dev {STATE.name}",
        )
        d = replace(C, subnet=IPv4Network("10.5.4.0/24"), mac="02:00:00:00:00:04")
        with pytest.raises(OSError, match="Invalid argument") as caught:
            await netlink.reconcile_vxlan(replace(STATE, peers=(B, C, d)))
        assert made_before(caught.value) == [
            LAYERS[0].format(B),
            *(layer.format(d) for layer in LAYERS),
            ROUTE.format(C),
        ]

    with_netlink(body)


def test_an_error_that_tells_of_nothing() -> None:
    assert list(made_before(OSError("no memory"))) == []
