"""Blackhole routes in a real kernel (flannel-behaviour.md 4.1)."""

from __future__ import annotations

import errno
import subprocess
from ipaddress import IPv4Network, IPv6Network

import pytest

from flannelette.tun.link import Netlink
from tests.helpers.freshnet import ip, shown, with_netlink
from tests.helpers.ns import needs_namespaces

pytestmark = needs_namespaces

OWN, OWN6 = IPv4Network("10.5.1.0/24"), IPv6Network("fd00:5:0:1::/64")
OVERLAY = IPv4Network("10.5.0.0/16"), IPv6Network("fd00:5::/48")
LAST = (1 << 32) - 1
ADDED = [f"blackhole {OWN} added", f"blackhole {OWN6} added"]
BRIDGE = [
    f"address add {OWN[1]}/24 dev fl0",
    f"address add {OWN6[1]}/64 dev fl0 nodad",
]
UP = "link set fl0 up"


def blackholes() -> dict[str, int]:
    """The metric of each; IPv6's kernel makes 1024 of none."""
    found = [*shown("-4 route show"), *shown("-6 route show")]
    return {it["dst"]: it.get("metric", 0) for it in found if it["type"] == "blackhole"}


async def reconcile(netlink: Netlink, *desired: IPv4Network | IPv6Network) -> list[str]:
    return await netlink.reconcile_blackholes(desired, OVERLAY)


def test_made_once_and_repaired() -> None:
    async def body(netlink: Netlink) -> None:
        assert await reconcile(netlink, OWN, OWN6) == ADDED
        assert blackholes() == {str(OWN): LAST, str(OWN6): LAST}
        assert await reconcile(netlink, OWN, OWN6) == []
        ip(f"route delete blackhole {OWN} metric {LAST}")
        assert await reconcile(netlink, OWN, OWN6) == ADDED[:1]

    with_netlink(body)


@pytest.mark.parametrize("bridge_first", [True, False])
def test_our_own_pods_are_reached_whoever_was_first(bridge_first: bool) -> None:
    """Where flanneld is first no pod is; where it is second it fails, every 5 s."""

    def up() -> None:
        ip(UP, *BRIDGE)

    async def body(netlink: Netlink) -> None:
        if bridge_first:
            up()
        assert await reconcile(netlink, OWN, OWN6) == ADDED
        if not bridge_first:
            up()
        for pod in OWN[2], OWN6[2]:
            [found] = shown(f"route get {pod}")
            assert found["dev"] == "fl0"
        ip("address flush dev fl0")
        ip("route add default dev fl0", "route add ::/0 dev fl0")
        for pod in OWN[2], OWN6[2]:
            with pytest.raises(subprocess.CalledProcessError):
                shown(f"route get {pod}")

    with_netlink(body)


def test_what_flanneld_left_gives_way() -> None:
    """It has no metric, and would go before the bridge's own route."""

    async def body(netlink: Netlink) -> None:
        ip(f"route add blackhole {OWN}", f"route add blackhole {OWN6}")
        steps = await reconcile(netlink, OWN, OWN6)
        assert steps == [
            *ADDED,
            f"blackhole {OWN} metric 0 removed",
            f"blackhole {OWN6} metric 1024 removed",
        ]
        assert blackholes() == {str(OWN): LAST, str(OWN6): LAST}

    with_netlink(body)


def test_ours_go_when_they_are_wanted_no_more() -> None:
    """Another node may have the subnet now. What is not ours stays."""
    others = [
        "route add blackhole 10.5.9.0/24",
        f"route add blackhole 10.5.8.0/24 metric {LAST}",
        f"route add blackhole 10.5.7.0/24 proto 80 metric {LAST}",
        f"route add blackhole 10.9.1.0/24 proto 70 metric {LAST}",
        f"route add unreachable 10.5.6.0/24 proto 70 metric {LAST}",
        f"route add blackhole {OWN} proto 80 metric 7",
    ]

    async def body(netlink: Netlink) -> None:
        ip(*others)
        before = blackholes()
        await reconcile(netlink, IPv4Network("10.5.2.0/24"), OWN6)
        assert await reconcile(netlink) == [
            f"blackhole 10.5.2.0/24 metric {LAST} removed",
            f"blackhole {OWN6} metric {LAST} removed",
        ]
        assert blackholes() == before
        assert len(shown("route show")) == len(others)

    with_netlink(body)


def test_one_that_fails_does_not_stop_the_others() -> None:
    async def body(netlink: Netlink) -> None:
        ip(f"route add blackhole 10.5.3.0/24 metric {LAST}")
        in_the_way = IPv4Network("10.5.3.0/24")
        with pytest.raises(OSError, match="File exists") as caught:
            await reconcile(netlink, in_the_way, OWN)
        assert caught.value.errno == errno.EEXIST
        assert caught.value.__notes__ == ["while adding the blackhole 10.5.3.0/24"]
        assert str(OWN) in blackholes()

    with_netlink(body)


def test_peers_routes_are_another_matter() -> None:
    """They bear the same mark."""

    async def body(netlink: Netlink) -> None:
        ip(UP, "address add 192.0.2.1/24 dev fl0")
        [link] = shown("link show fl0")
        await reconcile(netlink, OWN)
        await netlink.reconcile_peer_routes({}, link["ifindex"], OVERLAY)
        assert str(OWN) in blackholes()

    with_netlink(body)
