"""Static stores' files for tests: a network, and nodes in it."""

from __future__ import annotations

from collections.abc import Callable

from tests.helpers.storerig import IPS

Write = Callable[[str], None]
"""Rewrites the file of a fixture in place."""

NETWORK = """
[network]
Network = "10.5.0.0/16"
[network.Backend]
Type = "vxlan"
"""


DUAL_NETWORK = """
[network]
Network = "10.5.0.0/16"
EnableIPv6 = true
IPv6Network = "fd00:5::/48"
[network.Backend]
Type = "vxlan"
"""


def node(public_ip: str, subnet: str, **more: str) -> str:
    """An entry for a vxlan network; its MAC is that of attrs_of()."""
    last = public_ip.rpartition(".")[2]
    mac = f"02:00:00:00:00:{int(last):02x}" if last.isdecimal() else "02:00:00:00:01:00"
    members = {"public-ip": public_ip, "subnet": subnet, "mac": mac}
    members |= {name.replace("_", "-"): value for name, value in more.items()}
    return "[[node]]\n" + "".join(f'{k} = "{v}"\n' for k, v in members.items() if v)


def dual_node(number: int, **more: str) -> str:
    more = {
        "subnet6": f"fd00:5:0:{number}::/64",
        "public_ipv6": f"2001:db8::{number}",
        **more,
    }
    return node(f"192.0.2.{number}", f"10.5.{number}.0/24", **more)


GOOD = NETWORK + "".join(node(ip, f"10.5.{n}.0/24") for n, ip in enumerate(IPS[:3], 1))
DUAL_GOOD = DUAL_NETWORK + "".join(dual_node(n) for n in (1, 2, 3))
