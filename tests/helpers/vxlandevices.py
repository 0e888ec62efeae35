"""The kernel's VXLAN device for tests: a state to desire in each IP version, and what
iproute2 says of it in a namespace of the test's own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path
from typing import Any

import pytest

from flannelette.benchmarks.netns import tool
from flannelette.tun.link import Netlink
from flannelette.tun.vxlan import VxlanState
from flannelette.tun.vxlanpeers import VxlanPeer
from tests.helpers import freshnet
from tests.helpers.freshnet import shown

LOWER = 7
"""Index of the external interface."""
WIRE = (
    f"link add name eth0 index {LOWER} type veth peer name wire0",
    "link set eth0 up",
    "link set wire0 up",
    "link set lo up",
    "address add 192.0.2.1/24 dev eth0",
    "address add 2001:db8::1/64 dev eth0 nodad",
)
B, C = (
    VxlanPeer(
        IPv4Network(f"10.5.{n}.0/24"),
        f"02:00:00:00:00:0{n}",
        IPv4Address(f"192.0.2.{n}"),
    )
    for n in (2, 3)
)
STATE = VxlanState(
    name="flannel.1",
    vni=1,
    port=8472,
    lower=LOWER,
    local=IPv4Address("192.0.2.1"),
    mac="02:00:00:00:00:01",
    mtu=1450,
    address=IPv4Interface("10.5.1.0/32"),
    peers=(B, C),
)
B6, C6 = (
    VxlanPeer(
        IPv6Network(f"fd00:5:0:{n}::/64"),
        f"02:00:00:00:06:0{n}",
        IPv6Address(f"2001:db8::{n}"),
    )
    for n in (2, 3)
)
STATE6 = replace(
    STATE,
    name="flannel-v6.1",
    local=IPv6Address("2001:db8::1"),
    mtu=1430,
    address=IPv6Interface("fd00:5:0:1::/128"),
    peers=(B6, C6),
)
BOTH = pytest.mark.parametrize("state", [STATE, STATE6], ids=["IPv4", "IPv6"])
LAYERS = (
    "neighbour {0.gateway} set to {0.mac}",
    "FDB entry {0.mac} set to {0.address}",
)
ROUTE = "route {0.subnet} via {0.gateway} set"


def told(peers: Sequence[VxlanPeer]) -> list[str]:
    """The repairs that make these peers known."""
    return [line.format(peer) for line in (*LAYERS, ROUTE) for peer in peers]


def with_netlink(body: Callable[[Netlink], Awaitable[None]]) -> None:
    freshnet.with_netlink(body, WIRE)


def bridge(*words: str) -> Any:
    command = [tool("bridge"), "-json", *words]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout or "[]")


def fdb(name: str) -> dict[str, tuple[str, ...]]:
    """Where each MAC leads to, as iproute2 sees it; permanent and self, all of it."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in bridge("fdb", "show", "dev", name):
        assert (entry["state"], entry["flags"]) == ("permanent", ["self"])
        assert "port" not in entry
        found[entry["mac"]] = (*found.get(entry["mac"], ()), entry["dst"])
    return found


def neighbours(name: str) -> dict[str, str]:
    return {
        entry["dst"]: entry["lladdr"]
        for entry in shown(f"neighbour show dev {name} nud permanent")
    }


def peer_routes(state: VxlanState) -> dict[str, str]:
    family = state.address.version
    routes = shown(f"-{family} route show dev {state.name}")
    found = {}
    for route in routes:
        if "gateway" in route:
            assert "onlink" in route["flags"]
            assert (route["scope"], route["protocol"]) == ("global", "boot")
            found[route["dst"]] = route["gateway"]
    return found


def addresses(state: VxlanState) -> list[str]:
    family = "inet" if state.address.version == 4 else "inet6"
    (device,) = shown(f"address show dev {state.name}")
    return [
        f"{a['local']}/{a['prefixlen']}"
        for a in device["addr_info"]
        if a["family"] == family and a["scope"] == "global"
    ]


def assert_as_desired(state: VxlanState) -> None:
    (device,) = shown(f"link show {state.name}")
    assert (device["address"], device["mtu"]) == (state.mac, state.mtu)
    assert "UP" in device["flags"]
    assert addresses(state) == [str(state.address)]
    assert neighbours(state.name) == {str(p.gateway): p.mac for p in state.peers}
    assert fdb(state.name) == {p.mac: (str(p.address),) for p in state.peers}
    assert peer_routes(state) == {str(p.subnet): str(p.gateway) for p in state.peers}


def setting(device: str, name: str) -> Path:
    return Path(f"/proc/sys/net/ipv6/conf/{device}/{name}")
