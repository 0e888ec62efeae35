"""Each thing that the daemon knows of itself is a fact of its own."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flannelette.control import config
from flannelette.control.backends.udp import UdpBackend
from flannelette.control.errors import LeaseLost, StoreUnavailable
from flannelette.control.health.figures import Cluster, figures
from flannelette.control.health.lag import Lag
from flannelette.control.health.look import facts
from flannelette.control.health.readiness import Facts, Ready
from flannelette.control.interface import External
from flannelette.control.keeper import LeaseKeeper
from flannelette.control.lease import Lease, LeaseAttrs, Removed
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.node import Node
from flannelette.control.plan import Plan
from flannelette.control.store import StoreStatus
from flannelette.dataplane.forwarder import PeerCounters, Route

US = IPv4Address("192.0.2.1")
LEASE = Lease(IPv4Network("10.5.1.0/24"), LeaseAttrs(US))
PLAN = Plan(
    External("eth0", 2, 1500, US, US),
    NetworkConfig.parse('{"Network": "10.5.0.0/16"}'),
    UdpBackend(),
)
CONFIG = config.parse(["--subnet-lease-renew-margin=2"], {})
WELL = Facts(margin=120.0)


class World:
    """A node, and what it stands on."""

    def __init__(self, lease: Lease = LEASE, user: bool = True) -> None:
        self.status = StoreStatus("etcd", True, 1, 0, 0, None, 0.0, 1.0)
        self.failure: Exception | None = None
        forwarder = SimpleNamespace(pumping=True, peers=lambda: [PeerCounters(1)])
        self.carrier: Any = SimpleNamespace(
            forwarder=forwarder if user else None,
            device="flannel0" if user else None,
            routes=[
                Route.to(IPv4Network(subnet), IPv4Address(peer), 8285)
                for subnet, peer in (
                    ("10.5.2.0/24", "192.0.2.2"),
                    ("10.5.3.0/24", "192.0.2.3"),
                    ("10.5.4.0/24", "192.0.2.3"),
                )
            ],
            direct={IPv4Network("10.5.2.0/24")},
        )
        rules = SimpleNamespace(asked_for=True, error=None, repairs=0)
        self.rules = cast(Any, rules)
        store: Any = SimpleNamespace(status=lambda: self.status, reacquire=self._refuse)
        self.store = store
        keeper = LeaseKeeper(store, lease, margin=120.0)
        self.node = Node(PLAN, store, keeper, self.carrier, self.rules)

    async def _refuse(self, lease: Lease) -> Lease:
        assert self.failure is not None
        raise self.failure

    def facts(self) -> Facts:
        return facts(CONFIG, self.store, self.node, "not looked at")


def test_a_node_that_is_well() -> None:
    assert World().facts() == WELL
    assert World(user=False).facts() == WELL


def test_before_it_has_started() -> None:
    world = World()
    waiting = Facts(started=False, waiting_for="no config")
    assert facts(CONFIG, None, None, "no config") == waiting
    assert facts(CONFIG, world.store, None, "no config") == waiting


def test_a_lost_tun_and_what_cannot_be_repaired() -> None:
    world = World()
    world.carrier.device = None
    world.carrier.forwarder.pumping = False
    world.node._error = "no /dev/net/tun"
    assert world.facts() == replace(
        WELL, tun_lost=True, carrier_error="no /dev/net/tun", pump_ended=True
    )


def test_a_pump_that_has_ended() -> None:
    world = World()
    world.carrier.forwarder.pumping = False
    assert world.facts() == replace(WELL, pump_ended=True)


def test_rules_count_if_somebody_asked_for_them() -> None:
    world = World()
    world.rules.error = "no nft"
    assert world.facts() == replace(WELL, rules_error="no nft")
    world.rules.asked_for = False
    assert world.facts() == WELL


def test_a_store_that_is_away() -> None:
    world = World()
    world.status = replace(world.status, connected=False, error="refused", outage=7.0)
    assert world.facts() == replace(WELL, store_outage=7.0, store_error="refused")


async def test_a_lease_that_is_gone_until_it_is_taken_again() -> None:
    world = World()
    world.node.keeper.notice(Removed(LEASE.subnet, None))
    assert world.facts() == replace(WELL, lease_revoked=True)
    world.failure = LeaseLost("another has it")
    with pytest.raises(LeaseLost):
        await world.node.keeper.keep()


async def test_a_lease_that_is_not_renewed() -> None:
    world = World(replace(LEASE, expires=time.time() + 50))
    world.failure = StoreUnavailable("no answer")
    world.store.renew = world._refuse
    await world.node.keeper._renew()
    found = world.facts()
    assert found.lease_left == pytest.approx(50, abs=5)
    assert replace(found, lease_left=None) == replace(WELL, lease_error="no answer")


def test_figures_count_what_grows_with_the_cluster() -> None:
    world = World()
    found = figures({}, Ready(), Lag(), world.node)
    assert found.cluster == Cluster(routes=3, direct=1, peers=2, ignored=0)
    assert list(found.peers) == [PeerCounters(1)]
    assert list(figures({}, Ready(), Lag(), World(user=False).node).peers) == []
    nothing = figures({}, Ready(), Lag(), None)
    assert (nothing.cluster, list(nothing.peers)) == (Cluster(), [])


def test_a_node_with_an_address_of_each_ip_version_is_one_node() -> None:
    """Else nodes would not know the same number of them where one has IPv4 alone."""
    world = World()
    world.carrier.routes += [
        Route.to(IPv6Network(subnet), IPv6Address(peer), 8472)
        for subnet, peer in (
            ("fd00:5:0:2::/64", "2001:db8::2"),
            ("fd00:5:0:3::/64", "2001:db8::3"),
        )
    ]
    found = figures({}, Ready(), Lag(), world.node)
    assert (found.cluster.routes, found.cluster.peers) == (5, 2)
