"""What is refused before anything changes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from flannelette.control.backends import choice
from flannelette.control.errors import HostError
from flannelette.control.interface import External
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.plan import Plan

DUAL = '"EnableIPv6": true, "IPv6Network": "fd00:5::/48", '


def plan(mtu: int, backend: str = "udp", dual: bool = False, nat: bool = False) -> Plan:
    network = NetworkConfig.parse(
        f'{{"Network": "10.5.0.0/16", {DUAL if dual else ""}'
        f'"Backend": {{"Type": "{backend}"}}}}'
    )
    own, six = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")
    public = IPv4Address("198.51.100.1") if nat else own
    external = External("eth0", 2, mtu, own, public, six, six)
    return Plan(external, network, choice.from_config(network))


def test_an_interface_too_small_is_refused() -> None:
    with pytest.raises(HostError, match="eth0: its MTU 90 leaves 62 bytes"):
        plan(mtu=90)
    assert plan(mtu=96).mtu == 68


def test_ipv6_wants_a_larger_one() -> None:
    with pytest.raises(HostError, match="1279 bytes for the overlay; 1280 are needed"):
        plan(mtu=1307, dual=True)
    assert plan(mtu=1308, dual=True).mtu6 == 1280


def test_an_interface_larger_than_a_datagram_gives_what_fits() -> None:
    assert plan(mtu=65536).mtu == 65507


@pytest.mark.parametrize(
    ("backend", "dual", "mtus"),
    [
        ("udp", False, (1472, 0, 1472)),
        ("udp", True, (1472, 1472, 1472)),
        ("vxlan", False, (1450, 0, 1450)),
        ("vxlan", True, (1450, 1430, 1430)),
        ("host-gw", True, (1500, 1500, 1500)),
    ],
)
def test_mtus_s4(backend: str, dual: bool, mtus: tuple[int, int, int]) -> None:
    """S4; of IPv6 in VXLAN less the true overhead (V8). The last is FLANNEL_MTU."""
    made = plan(1500, backend, dual)
    assert (made.mtu, made.mtu6, made.smallest_mtu) == mtus


def test_host_gw_wants_its_own_address() -> None:
    """7.1."""
    with pytest.raises(HostError, match=r"public IP 198\.51\.100\.1 is not the addr"):
        plan(1500, "host-gw", nat=True)
    assert plan(1500, "vxlan", nat=True).mtu == 1450
