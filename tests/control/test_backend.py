"""What the udp backend makes of its configuration (flannel-behaviour.md 5.1)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from flannelette.control.backend import UdpBackend
from flannelette.control.errors import NetworkConfigError
from flannelette.control.lease import LeaseAttrs
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
        ('{"Type": "vxlan"}', "vxlan"),
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


def test_mtu_u5() -> None:
    assert UdpBackend(8285).mtu(1500) == 1472


def test_a_lease_is_reached_at_its_public_ip_and_our_port_u7() -> None:
    """Whatever its type: flannel's udp does not filter (L7)."""
    attrs = LeaseAttrs(IPv4Address("192.0.2.7"), backend_type="host-gw")
    route = UdpBackend(9000).route(IPv4Network("10.5.7.0/24"), attrs)
    assert route == Route(0x0A050700, 24, 0xC0000207, 9000)


def test_our_lease_is_l3() -> None:
    attrs = UdpBackend(8285).attrs(IPv4Address("1.2.3.4"))
    assert attrs.encode() == b'{"PublicIP":"1.2.3.4","PublicIPv6":null}'
