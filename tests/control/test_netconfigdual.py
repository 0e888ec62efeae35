"""The network configuration in dual stack: defaults, checks, and which subnets fit."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest

from flannelette.control.errors import NetworkConfigError
from flannelette.control.netconfig import NetworkConfig
from tests.helpers.netconfigs import dual, parse


def test_dual_stack_defaults() -> None:
    """T29, with its lower-case member names; E11."""
    config = NetworkConfig.parse(
        '{"network": "10.3.0.0/16", "enableIPv6": true, "ipv6Network": "fc00::/48"}'
    )
    assert config == NetworkConfig(
        network=IPv4Network("10.3.0.0/16"),
        subnet_len=24,
        subnet_min=IPv4Address("10.3.1.0"),
        subnet_max=IPv4Address("10.3.255.0"),
        backend_type="udp",
        backend={},
        network6=IPv6Network("fc00::/48"),
        subnet6_len=64,
        subnet6_min=IPv6Address("fc00:0:0:1::"),
        subnet6_max=IPv6Address("fc00:0:0:ffff::"),
    )


def test_dual_stack_overrides() -> None:
    """T29."""
    config = dual(
        IPv6SubnetMin="fc00:0:0:1::",
        ipv6subnetmax="FC00:0:0:F::",
        IPv6SubnetLen=124,
    )
    assert config.subnet6_min == IPv6Address("fc00:0:0:1::")
    assert config.subnet6_max == IPv6Address("fc00:0:0:f::")
    assert config.subnet6_len == 124


@pytest.mark.parametrize(
    ("network", "length", "low", "high"),
    [
        ("fd00::/8", 64, "fd00:0:0:1::", "fdff:ffff:ffff:ffff::"),
        ("fd00::/62", 64, "fd00:0:0:1::", "fd00:0:0:3::"),
        ("fd00::/63", 65, "fd00::8000:0:0:0", "fd00:0:0:1:8000::"),
        ("fd00::/124", 126, "fd00::4", "fd00::c"),
        ("fd00:1::7/48", 64, "fd00:1:0:1::", "fd00:1:0:ffff::"),
    ],
)
def test_default_ipv6_lengths_and_bounds(
    network: str, length: int, low: str, high: str
) -> None:
    """E10, E11."""
    config = dual(IPv6Network=network)
    assert config.network6 == IPv6Network(network, strict=False)
    assert config.subnet6_len == length
    assert (config.subnet6_min, config.subnet6_max) == (
        IPv6Address(low),
        IPv6Address(high),
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"IPv6Network": None}, "IPv6Network is missing"),
        ({"IPv6Network": ""}, "IPv6Network is missing"),
        ({"IPv6Network": "::/0"}, "IPv6Network is missing"),
        ({"IPv6Network": "fd00::"}, "IPv6Network 'fd00::' is no ADDRESS/LENGTH"),
        ({"IPv6Network": "fd00::%1/48"}, "IPv6Network .* no ADDRESS/LENGTH"),
        ({"IPv6Network": "fd00::/129"}, "IPv6Network: "),
        ({"IPv6Network": "10.5.0.0/16"}, "IPv6Network: "),
        ({"IPv6Network": 6}, "IPv6Network"),
        ({"IPv6Network": "fd00::/125"}, "IPv6Network fd00::/125 is too small; /124"),
        ({"IPv6SubnetLen": 127}, "IPv6SubnetLen 127 must lie between 50 .* and 126"),
        ({"IPv6SubnetLen": 49}, "IPv6SubnetLen 49"),
        ({"IPv6SubnetLen": "64"}, "IPv6SubnetLen"),
        ({"IPv6SubnetMin": "fd00::"}, "IPv6SubnetMin fd00:: lies outside fc00::/48"),
        ({"IPv6SubnetMax": "fd00::"}, "IPv6SubnetMax fd00:: lies outside"),
        ({"IPv6SubnetMin": "fc00::1"}, "IPv6SubnetMin fc00::1 is not the start"),
        ({"IPv6SubnetMin": "fc00:0:0:1::%1"}, "IPv6SubnetMin"),
        ({"IPv6SubnetMin": "10.3.1.0"}, "IPv6SubnetMin: "),
        ({"IPv6SubnetMin": ""}, "IPv6SubnetMin: "),
        (
            {"IPv6SubnetMin": "fc00:0:0:9::", "IPv6SubnetMax": "fc00:0:0:8::"},
            "IPv6SubnetMin fc00:0:0:9:: lies above IPv6SubnetMax fc00:0:0:8::",
        ),
        ({"Network": None}, " Network is missing"),
        ({"EnableIPv4": False}, "EnableIPv4 is false, but IPv6 works only beside IPv4"),
        ({"EnableIPv6": 1}, "EnableIPv6"),
    ],
)
def test_what_is_refused_in_dual_stack(members: dict[str, Any], message: str) -> None:
    """E7, E10, E11; E24: IPv6 alone."""
    with pytest.raises(NetworkConfigError, match=message) as caught:
        dual(**members)
    assert str(caught.value).startswith("network config: ")
    assert "\n" not in str(caught.value)


def test_ipv6_members_say_nothing_unless_it_is_enabled() -> None:
    config = dual(EnableIPv6=False, IPv6SubnetLen=3)
    assert config == parse(Network="10.3.0.0/16")


@pytest.mark.parametrize(
    ("subnet", "subnet6", "contained"),
    [
        ("10.3.2.0/24", "fc00:0:0:2::/64", True),
        ("10.3.2.0/24", "fc00:0:0:8::/64", True),
        ("10.3.2.0/24", "fc00:0:0:1::/64", False),
        ("10.3.2.0/24", "fc00:0:0:9::/64", False),
        ("10.3.2.0/24", "fc00:0:0:2::/65", False),
        ("10.3.2.0/24", "fc01:0:0:2::/64", False),
        ("10.3.2.0/24", None, False),
        ("10.3.0.0/24", "fc00:0:0:2::/64", False),
    ],
)
def test_contains_in_dual_stack(
    subnet: str, subnet6: str | None, contained: bool
) -> None:
    """E14: both, or none of it is ours."""
    config = dual(IPv6SubnetMin="fc00:0:0:2::", IPv6SubnetMax="fc00:0:0:8::")
    six = None if subnet6 is None else IPv6Network(subnet6)
    assert config.contains(IPv4Network(subnet), six) is contained
