"""What the udp backend makes of its configuration (flannel-behaviour.md 5.1)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from flannelette.control.backends.udp import UdpBackend
from flannelette.control.errors import NetworkConfigError
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.dataplane.forwarder import Route


def backend(text: str) -> UdpBackend:
    config = f'{{"Network": "10.5.0.0/16", "Backend": {text}}}'
    return UdpBackend.from_config(NetworkConfig.parse(config))


def test_no_backend_is_udp_on_8285_u1() -> None:
    config = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
    assert UdpBackend.from_config(config).port == 8285


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ('{"Type": "udp"}', 8285),
        ('{"Type": "UDP", "Port": 9000}', 9000),
        ('{"type": "udp", "port": 9000}', 9000),
        ('{"Type": "udp", "Port": 0}', 8285),
        ('{"Type": "udp", "Port": null}', 8285),
        ('{"Type": "udp", "Other": 1}', 8285),
    ],
)
def test_port(text: str, port: int) -> None:
    assert backend(text).port == port


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"Type": "udp", "Datapath": "kernel"}', "Backend.Datapath is 'kernel'"),
        ('{"Type": "udp", "Port": "8285"}', "not a number"),
        ('{"Type": "udp", "Port": true}', "not a number"),
        ('{"Type": "udp", "Port": 1.5}', "not a number"),
        ('{"Type": "udp", "Port": 65536}', "65536"),
        ('{"Type": "udp", "Port": -1}', "-1"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(NetworkConfigError, match=reason):
        backend(text)


def external(address: str) -> External:
    own = IPv4Address(address)
    return External("eth0", 2, 1500, own, own)


def test_mtu_u5() -> None:
    assert UdpBackend().mtus(1500) == (1472, 0)
    assert UdpBackend(ipv6=True).mtus(65536) == (65507, 65507)


SUBNET, SUBNET6 = IPv4Network("10.5.7.0/24"), IPv6Network("fd00:5:0:7::/64")
PEER = IPv4Address("192.0.2.7")


def test_a_lease_is_reached_at_its_public_ip_and_our_port_u7() -> None:
    """Whatever its type: flannel's udp does not filter (L7)."""
    lease = Lease(SUBNET, LeaseAttrs(PEER, backend_type="host-gw"))
    assert UdpBackend(9000).objection(lease, lease) is None
    routes = UdpBackend(9000).routes(lease)
    assert routes == {SUBNET: Route(0x0A050700, 24, 0xC0000207, 9000)}


def test_ipv6_goes_to_who_announces_it_over_ipv4() -> None:
    announced = Lease(SUBNET, LeaseAttrs(PEER, raw_ipv6=True), SUBNET6)
    both = {
        SUBNET: Route.to(SUBNET, PEER, 8285),
        SUBNET6: Route.to(SUBNET6, PEER, 8285),
    }
    assert UdpBackend(ipv6=True).routes(announced) == both
    assert UdpBackend(ipv6=False).routes(announced).keys() == {SUBNET}
    flanneld = Lease(SUBNET, LeaseAttrs(PEER), SUBNET6)
    assert UdpBackend(ipv6=True).routes(flanneld).keys() == {SUBNET}


def test_our_lease_is_l3() -> None:
    us = external("1.2.3.4")
    plain = b'{"PublicIP":"1.2.3.4","PublicIPv6":null'
    assert UdpBackend().attrs(us, mac=1).encode() == plain + b"}"
    dual = UdpBackend(ipv6=True).attrs(us, mac=1)
    assert dual.encode() == plain + b',"RawIPv6":true}'
