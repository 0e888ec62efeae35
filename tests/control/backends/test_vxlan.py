"""What vxlan makes of its configuration and of leases (flannel-behaviour.md 6)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest

from flannelette.control.backends.vxlan import VxlanBackend, vtep_mac
from flannelette.control.errors import NetworkConfigError
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.dataplane.forwarder import Route

DUAL = '"EnableIPv6": true, "IPv6Network": "fd00:5::/48", '
SUBNET, SUBNET6 = IPv4Network("10.5.7.0/24"), IPv6Network("fd00:5:0:7::/64")
PEER, PEER6 = IPv4Address("192.0.2.7"), IPv6Address("2001:db8::7")
DATA = '{"VNI":1,"VtepMAC":"0a:00:00:00:00:07"}'
DATA6 = '{"VNI":1,"VtepMAC":"0a:00:00:00:06:07"}'
ME = External(
    "eth0",
    2,
    1500,
    IPv4Address("192.0.2.1"),
    IPv4Address("192.0.2.1"),
    IPv6Address("2001:db8::1"),
    IPv6Address("2001:db8::1"),
)
MINE = 0x0A0000000001


def backend(text: str, dual: bool = False) -> VxlanBackend:
    members = f'"Type": "vxlan"{", " if text else ""}{text}'
    config = (
        f'{{{DUAL if dual else ""}"Network": "10.5.0.0/16", "Backend": {{{members}}}}}'
    )
    return VxlanBackend.from_config(NetworkConfig.parse(config))


def peer(**changes: Any) -> Lease:
    """As flanneld writes it in dual stack, but for the changes."""
    members: dict[str, Any] = {
        "public_ip": PEER,
        "public_ipv6": PEER6,
        "backend_type": "vxlan",
        "backend_data": DATA,
        "backend_v6_data": DATA6,
    }
    return Lease(SUBNET, LeaseAttrs(**members | changes), SUBNET6)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("", VxlanBackend()),
        ('"VNI": 0', VxlanBackend(vni=0)),
        ('"vni": 16777215, "port": 4789', VxlanBackend(vni=16777215, port=4789)),
        ('"VNI": null, "Port": 0, "MTU": 0, "GBP": null', VxlanBackend()),
        ('"MTU": 1400', VxlanBackend(mtu=1400)),
        ('"directRouting": true', VxlanBackend(direct_routing=True)),
        ('"Learning": false, "GBP": false', VxlanBackend()),
        ('"Datapath": "user"', VxlanBackend()),
        (
            '"Datapath": "kernel", "GBP": true, "Learning": true',
            VxlanBackend(kernel=True, gbp=True, learning=True),
        ),
    ],
)
def test_config_v1_to_v4(text: str, made: VxlanBackend) -> None:
    assert backend(text) == made


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"VNI": 16777216', "VNI 16777216 does not lie between 0 and 16777215"),
        ('"VNI": -1', "VNI -1"),
        ('"VNI": "1"', "VNI is not a number"),
        ('"Port": 65536', "Port 65536"),
        ('"Port": true', "Port is not a number"),
        ('"MTU": 67', "MTU 67 does not lie between 68 and"),
        ('"GBP": 1', "GBP is neither true nor false"),
        ('"GBP": true', "GBP needs Backend.Datapath kernel"),
        ('"Learning": true', "Learning needs Backend.Datapath kernel"),
        ('"Datapath": "fast"', "Datapath is 'fast', not one of user, kernel"),
        ('"Datapath": 7', "Datapath is 7"),
        ('"Datapath": "kernel", "VNI": 10000000', "no device name as long as flannel"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(NetworkConfigError, match=reason):
        backend(text)


def test_the_kernel_s_names_are_short() -> None:
    assert backend('"Datapath": "kernel", "VNI": 9999999').device == "flannel.9999999"
    dual = backend('"Datapath": "kernel", "VNI": 9999', dual=True)
    assert dual.device6 == "flannel-v6.9999"
    with pytest.raises(NetworkConfigError, match=r"flannel-v6\.10000$"):
        backend('"Datapath": "kernel", "VNI": 10000', dual=True)


def test_mtu_v4_v8() -> None:
    """The option is the underlay's MTU, too; of IPv6 70 bytes go off."""
    assert backend("").mtus(1500) == (1450, 0)
    assert backend("", dual=True).mtus(1500) == (1450, 1430)
    assert backend('"MTU": 1400', dual=True).mtus(9000) == (1350, 1330)
    assert backend("", dual=True).mtus(65536) == (65485, 65466)


def test_our_lease_is_flannelds_l1_l6() -> None:
    data = '{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}'
    assert backend("").attrs(ME, MINE).encode().decode() == (
        '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan",'
        f'"BackendData":{data}}}'
    )
    assert backend("", dual=True).attrs(ME, MINE).encode().decode() == (
        '{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan",'
        f'"BackendData":{data},"BackendV6Data":{data}}}'
    )


def own(of: VxlanBackend) -> Lease:
    attrs = of.attrs(ME, MINE)
    return Lease(IPv4Network("10.5.1.0/24"), attrs, IPv6Network("fd00:5:0:1::/64"))


def test_a_peer_is_reached_over_both_versions() -> None:
    assert backend("", dual=True).routes(peer()) == {
        SUBNET: Route.to(SUBNET, PEER, 8472, 0x0A0000000007),
        SUBNET6: Route.to(SUBNET6, PEER6, 8472, 0x0A0000000607),
    }
    assert backend('"Port": 4789').routes(peer()) == {
        SUBNET: Route.to(SUBNET, PEER, 4789, 0x0A0000000007)
    }


def test_a_peer_without_ipv6_address_is_reached_over_ipv4() -> None:
    dual, old = backend("", dual=True), peer(public_ipv6=None, backend_v6_data=None)
    assert dual.objection(old, own(dual)) is None
    assert dual.routes(old).keys() == {SUBNET}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"backend_type": "host-gw"}, "backend host-gw, not vxlan"),
        ({"backend_type": ""}, "backend udp, not vxlan"),
        ({"backend_type": "VXLAN"}, "backend VXLAN, not vxlan"),
        ({"backend_data": None}, "no VtepMAC"),
        ({"backend_data": "[]"}, "no VtepMAC"),
        ({"backend_data": '{"VNI":1}'}, "no VtepMAC"),
        ({"backend_data": '{"VtepMAC":null}'}, "no VtepMAC"),
        ({"backend_data": '{"VtepMAC":7}'}, "no VtepMAC"),
        ({"backend_data": '{"VtepMAC":"x"}'}, "not a MAC address: 'x'"),
        (
            {"backend_data": '{"VtepMAC":"ff:ff:ff:ff:ff:ff"}'},
            "the VtepMAC ff:ff:ff:ff:ff:ff is no device's",
        ),
        (
            {"backend_data": '{"VtepMAC":"00:00:00:00:00:00"}'},
            "the VtepMAC 00:00:00:00:00:00 is no device's",
        ),
        (
            {"backend_data": '{"VtepMAC":"01:00:5e:00:00:01"}'},
            "the VtepMAC 01:00:5e:00:00:01 is no device's",
        ),
        ({"backend_data": '{"VtepMAC":"0a:00:00:00:00:01"}'}, "our own MAC"),
        ({"backend_v6_data": None}, "no VtepMAC"),
        ({"backend_v6_data": '{"VtepMAC":"0a-00-00-00-00-01"}'}, "our own MAC"),
    ],
)
def test_objections_l7_h4_h6(changes: dict[str, Any], reason: str) -> None:
    dual = backend("", dual=True)
    assert dual.objection(peer(**changes), own(dual)) == reason
    assert dual.objection(peer(), own(dual)) is None


def test_a_wrong_ipv6_half_does_not_matter_in_a_network_without() -> None:
    plain = backend("")
    assert plain.objection(peer(backend_v6_data="7"), own(plain)) is None


@pytest.mark.parametrize(
    "data",
    ['{"VtepMAC":"0a00.0000.0007"}', '{"vni":9,"vtepmac":"0A-00-00-00-00-07"}'],
)
def test_a_peer_s_vni_does_not_matter_l5_l6(data: str) -> None:
    assert vtep_mac(data) == 0x0A0000000007
