"""Which backend a configuration means, and what host-gw makes of leases (7.1)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from flannelette.control.backends import choice
from flannelette.control.backends.alloc import AllocBackend
from flannelette.control.backends.extension import ExtensionBackend
from flannelette.control.backends.hostgw import HostGwBackend
from flannelette.control.backends.udp import UdpBackend
from flannelette.control.backends.vxlan import VxlanBackend
from flannelette.control.errors import NetworkConfigError
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.dataplane.forwarder import Route

SUBNET, SUBNET6 = IPv4Network("10.5.7.0/24"), IPv6Network("fd00:5:0:7::/64")
PEER, PEER6 = IPv4Address("192.0.2.7"), IPv6Address("2001:db8::7")
ME = External("eth0", 2, 1500, PEER, PEER, PEER6, PEER6)


def test_the_type_chooses_in_any_case() -> None:
    for text, kind in (
        ("UDP", UdpBackend),
        ("vxlan", VxlanBackend),
        ("Host-GW", HostGwBackend),
        ("ALLOC", AllocBackend),
        ("Extension", ExtensionBackend),
    ):
        made = choice.from_config(
            NetworkConfig.parse(
                f'{{"Network": "10.5.0.0/16", "Backend": {{"Type": "{text}"}}}}'
            )
        )
        assert isinstance(made, kind)


def test_no_backend_is_udp() -> None:
    config = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
    assert choice.from_config(config) == UdpBackend(8285)


def test_others_are_refused() -> None:
    config = NetworkConfig.parse(
        '{"Network": "10.5.0.0/16", "Backend": {"Type": "wireguard"}}'
    )
    with pytest.raises(NetworkConfigError, match="'wireguard' is not supported: udp, "):
        choice.from_config(config)


def test_a_host_gw_lease() -> None:
    assert HostGwBackend().attrs(ME, mac=1).encode() == (
        b'{"PublicIP":"192.0.2.7","PublicIPv6":null,"BackendType":"host-gw"}'
    )
    assert HostGwBackend(ipv6=True).attrs(ME, mac=1).encode() == (
        b'{"PublicIP":"192.0.2.7","PublicIPv6":"2001:db8::7","BackendType":"host-gw"}'
    )


def test_a_host_gw_peer_is_a_gateway() -> None:
    lease = Lease(SUBNET, LeaseAttrs(PEER, PEER6, "host-gw"), SUBNET6)
    four, six = Route.to(SUBNET, PEER), Route.to(SUBNET6, PEER6)
    assert HostGwBackend().objection(lease, lease) is None
    assert HostGwBackend().routes(lease) == {SUBNET: four}
    assert HostGwBackend(ipv6=True).routes(lease) == {SUBNET: four, SUBNET6: six}
    without = Lease(SUBNET, LeaseAttrs(PEER, None, "host-gw"), SUBNET6)
    assert HostGwBackend(ipv6=True).routes(without) == {SUBNET: four}


def test_others_are_no_gateways_l7() -> None:
    lease = Lease(SUBNET, LeaseAttrs(PEER))
    assert HostGwBackend().objection(lease, lease) == "backend udp, not host-gw"


@pytest.mark.parametrize("public", ["0.0.0.0", "224.0.0.1", "127.0.0.1"])
def test_what_is_no_host_is_no_gateway(public: str) -> None:
    """The kernel takes 0.0.0.0, and makes of it a route without any."""
    lease = Lease(SUBNET, LeaseAttrs(IPv4Address(public), None, "host-gw"))
    reason = f"the public IP {public} can be no gateway"
    assert HostGwBackend().objection(lease, lease) == reason


def test_of_ipv6_only_where_it_is_used() -> None:
    lease = Lease(SUBNET, LeaseAttrs(PEER, IPv6Address("::"), "host-gw"), SUBNET6)
    assert HostGwBackend().objection(lease, lease) is None
    assert HostGwBackend(ipv6=True).objection(lease, lease) is not None
