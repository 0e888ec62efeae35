"""subnet.env as the CNI plugin reads it: flannel-behaviour.md N2, T44."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from flannelette.control import subnetfile
from flannelette.control.cni.subnet import NodeSubnet, SubnetFileError, parse
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from tests.helpers.cni import REST, SUBNETS

NETWORK, OTHER = IPv4Network("10.1.0.0/16"), IPv4Network("192.168.0.0/16")
NETWORK6 = IPv6Network("fc00::/48")
SUBNET, SUBNET6 = IPv4Network("10.1.17.0/24"), IPv6Network("fc00::/64")


@pytest.mark.parametrize(
    ("stack", "networks", "subnets"),
    [
        ("IPv4", (NETWORK,), (SUBNET,)),
        ("two networks", (NETWORK, OTHER), (SUBNET,)),
        ("IPv6", (NETWORK6,), (SUBNET6,)),
        ("dual", (NETWORK, NETWORK6), (SUBNET, SUBNET6)),
    ],
)
def test_the_stacks(
    stack: str,
    networks: tuple[IPv4Network | IPv6Network, ...],
    subnets: tuple[IPv4Network | IPv6Network, ...],
) -> None:
    """T44."""
    assert parse(SUBNETS[stack] + REST) == NodeSubnet(networks, subnets, 1472, True)


def test_what_the_daemon_writes_is_read(tmp_path: Path) -> None:
    """S1."""
    path = tmp_path / "subnet.env"
    network = NetworkConfig.parse(
        '{"Network": "10.1.0.0/16", "EnableIPv6": true, "IPv6Network": "fc00::/48"}'
    )
    lease = Lease(SUBNET, LeaseAttrs(IPv4Address("192.0.2.1")), SUBNET6)
    subnetfile.write(path, network, lease, 1472)
    assert parse(path.read_text()) == NodeSubnet(
        (NETWORK, NETWORK6), (SUBNET, SUBNET6), 1472, False
    )


def test_a_network_twice_is_one() -> None:
    """N2."""
    text = SUBNETS["IPv4"].replace("/16", "/16,10.1.2.3/16,192.168.0.0/16")
    assert parse(text + REST).networks == (NETWORK, OTHER)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (
            "foo=bar",
            "FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, "
            "FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ",
        ),
        (SUBNETS["IPv6"], "FLANNEL_MTU, FLANNEL_IPMASQ"),
        (REST, "FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, "
         "FLANNEL_IPV6_SUBNET"),
        ("FLANNEL_SUBNET=10.1.17.1/24\n" + REST,
         "FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK"),
    ],
)  # fmt: skip
def test_all_that_is_missing_is_named(text: str, missing: str) -> None:
    """T44: in this order."""
    with pytest.raises(SubnetFileError) as caught:
        parse(text)
    assert str(caught.value) == f"missing {missing}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FLANNEL_MTU=1472", "FLANNEL_MTU"),
        ("1472", "4294967296"),
        ("1472", "-1"),
        ("1472", "0x9"),
        ("1472", "1_472"),
        ("1472", ""),
        ("10.1.17.1/24", "10.1.17.1"),
        ("10.1.17.1/24", "10.1.17.1/255.255.255.0"),
        ("10.1.17.1/24", "10.1.17.1/33"),
        ("10.1.17.1/24", "fc00::1/64"),
        ("10.1.0.0/16", "10.1.0.0/16,"),
        ("10.1.0.0/16", "x,10.1.0.0/16"),
        ("fc00::/48", "10.1.0.0/16"),
        ("fc00::1/64", "fc00::1%eth0/64"),
        ("fc00::1/64", "fc00::1/129"),
    ],
)
def test_a_value_that_is_none(old: str, new: str) -> None:
    """N2: where flannel's plugin returns an error, and where it crashes."""
    text = SUBNETS["dual"] + REST
    assert old in text
    with pytest.raises(SubnetFileError, match="FLANNEL_"):
        parse(text.replace(old, new))


@given(st.integers(0, len(SUBNETS["dual"] + REST) - 2))
def test_half_a_file_is_refused(length: int) -> None:
    """But for its last value, which may be cut short unseen."""
    text = (SUBNETS["dual"] + REST)[:length]
    if text.partition("IPMASQ=")[1]:
        assert not parse(text).ipmasq
    else:
        with pytest.raises(SubnetFileError):
            parse(text)


@given(st.text() | st.text("FLANEL_SUBTMPQIWORKV6=/.,:0123456789\n"))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(SubnetFileError):
        parse(text)
