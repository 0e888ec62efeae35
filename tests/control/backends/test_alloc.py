"""What the alloc backend makes of leases (flannel-behaviour.md 7.6)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

from flannelette.control.backends.alloc import AllocBackend
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig

OWN, PUBLIC = IPv4Address("192.0.2.7"), IPv4Address("198.51.100.7")
SIX = IPv6Address("2001:db8::7")
ME = External("eth0", 2, 1500, OWN, PUBLIC, SIX, SIX)
DUAL = '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}'


def test_our_lease_is_l3() -> None:
    """Of the public IP; without a type, and without IPv6 in dual stack too."""
    for backend in (
        AllocBackend(),
        AllocBackend.from_config(NetworkConfig.parse(DUAL)),
    ):
        assert backend.attrs(ME, mac=1).encode() == (
            b'{"PublicIP":"198.51.100.7","PublicIPv6":null}'
        )


def test_mtu_s4() -> None:
    assert AllocBackend().mtus(1500) == (1500, 0)
    assert AllocBackend(ipv6=True).mtus(1500) == (1500, 1500)


def test_others_leases_are_no_routes() -> None:
    lease = Lease(IPv4Network("10.5.7.0/24"), LeaseAttrs(OWN, None, "vxlan"))
    assert AllocBackend().objection(lease, lease) is None
    assert AllocBackend().routes(lease) == {}
