"""A device's desired state for tests of tun/link.py, and what iproute2 says of it."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from flannelette.tun.link import LinkState
from tests.helpers.freshnet import shown
from tests.helpers.ns import until

DESIRED = LinkState(
    name="fl0",
    address=IPv4Interface("10.5.1.0/32"),
    mtu=1472,
    routes=(IPv4Network("10.5.0.0/16"),),
)


def assert_as_desired() -> None:
    """U4, as iproute2 sees it."""
    (device,) = shown("link show fl0")
    assert device["mtu"] == 1472
    assert "UP" in device["flags"]
    assert device["inet6_addr_gen_mode"] == "none"
    (device,) = shown("address show dev fl0")
    (address,) = [a for a in device["addr_info"] if a["family"] == "inet"]
    assert (address["local"], address["prefixlen"]) == ("10.5.1.0", 32)
    assert address["scope"] == "global"
    (route,) = shown("route show 10.5.0.0/16 scope global")
    assert route["dev"] == "fl0"
    assert {"prefsrc", "metric", "gateway"}.isdisjoint(route)
    assert route["protocol"] == "boot"


def ipv6_setting(name: str, device: str = "fl0") -> Path:
    return Path(f"/proc/sys/net/ipv6/conf/{device}/{name}")


NO_LINK_LOCAL = "link set peer0 addrgenmode none"
"""A line of ip(8) that keeps peer0 from getting an address by itself later."""


def settled() -> tuple[Any, ...]:
    """All routes and addresses, once the kernel has done what it does a moment later:
    the carrier comes, and an IPv6 address gets its local route."""
    until(_is_settled)
    return (
        shown("-4 route show table all"),
        shown("-6 route show table all"),
        shown("address show"),
    )


def _is_settled() -> bool:
    (peer,) = shown("link show peer0")
    routes = shown("-6 route show table local type local")
    there = {
        address["local"]
        for device in shown("address show")
        for address in device["addr_info"]
        if address["family"] == "inet6"
    }
    return peer["operstate"] == "UP" and there <= {route["dst"] for route in routes}
