"""A node's lease table, in IPv4 alone and in dual stack, and what events change."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from flannelette.control.backends import choice
from flannelette.control.lease import Event, Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.table import Change, LeaseTable, SetRoute
from flannelette.dataplane.forwarder import Route

NETWORK = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
DUAL = NetworkConfig.parse(
    '{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48",'
    ' "Backend": {"Type": "vxlan"}}'
)
OWN = IPv4Network("10.5.0.0/24")
OWN6 = IPv6Network("fd00:5::/64")
OURS = "our own public IP"
"""Why a lease is no route, as the table says it."""
OUTSIDE = IPv4Network("10.6.0.0/24")
A, B = IPv4Network("10.5.1.0/24"), IPv4Network("10.5.2.0/24")
SIX = IPv6Network("fd00:5:0:1::/64")


def attrs(last: int, data: str | None = None) -> LeaseAttrs:
    return LeaseAttrs(IPv4Address(f"192.0.2.{last}"), backend_data=data)


def vtep(last: int, mac: int | None = None, six: int | None = None) -> LeaseAttrs:
    """What a vxlan node writes; `mac` and `six` differ from its number when it lies."""
    data = f'{{"VNI":1,"VtepMAC":"02:00:00:00:00:{mac or last:02x}"}}'
    return LeaseAttrs(
        IPv4Address(f"192.0.2.{last}"),
        IPv6Address(f"2001:db8::{six or last}"),
        "vxlan",
        data,
        data,
    )


US = attrs(9)


def make_table() -> LeaseTable:
    return LeaseTable(Lease(OWN, US), NETWORK, choice.from_config(NETWORK))


def dual_table() -> LeaseTable:
    return LeaseTable(Lease(OWN, vtep(9), OWN6), DUAL, choice.from_config(DUAL))


def to(subnet: IPv4Network, last: int) -> SetRoute:
    """How udp reaches it."""
    return SetRoute(subnet, Route.to(subnet, attrs(last).public_ip, 8285))


def told(*events: Event, table: LeaseTable | None = None) -> list[Change]:
    """What the last of the events changes."""
    table = make_table() if table is None else table
    changes: list[Change] = []
    for event in events:
        changes = table.apply(event)
    return changes
