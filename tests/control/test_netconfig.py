"""The network configuration: defaults, checks, and any text at all.

What dual stack adds is in test_netconfigdual."""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from flannelette.control.errors import NetworkConfigError
from flannelette.control.netconfig import NetworkConfig
from tests.helpers.netconfigs import dual, parse


def test_defaults() -> None:
    """T29, with its lower-case member names; E9."""
    config = NetworkConfig.parse('{"network": "10.3.0.0/16"}')
    assert config == NetworkConfig(
        network=IPv4Network("10.3.0.0/16"),
        subnet_len=24,
        subnet_min=IPv4Address("10.3.1.0"),
        subnet_max=IPv4Address("10.3.255.0"),
        backend_type="udp",
        backend={},
    )


def test_overrides() -> None:
    """T29."""
    config = parse(
        Network="10.3.0.0/16",
        SubnetMin="10.3.5.0",
        SubnetMax="10.3.8.0",
        SubnetLen=28,
    )
    assert (str(config.subnet_min), str(config.subnet_max)) == ("10.3.5.0", "10.3.8.0")
    assert config.subnet_len == 28


@pytest.mark.parametrize(
    ("network", "length", "low", "high"),
    [
        ("10.0.0.0/8", 24, "10.0.1.0", "10.255.255.0"),
        ("10.4.0.0/22", 24, "10.4.1.0", "10.4.3.0"),
        ("10.4.0.0/23", 25, "10.4.0.128", "10.4.1.128"),
        ("10.4.0.0/24", 26, "10.4.0.64", "10.4.0.192"),
        ("10.4.0.0/28", 30, "10.4.0.4", "10.4.0.12"),
        ("10.4.7.9/16", 24, "10.4.1.0", "10.4.255.0"),  # masked to its base
    ],
)
def test_default_lengths_and_bounds(
    network: str, length: int, low: str, high: str
) -> None:
    """E8, E9, and section 1.2 on Network."""
    config = parse(Network=network)
    assert config.subnet_len == length
    assert (str(config.subnet_min), str(config.subnet_max)) == (low, high)
    assert config.network == IPv4Network(network, strict=False)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "Network is missing"),
        ({"Network": ""}, "Network is missing"),
        ({"Network": None}, "Network is missing"),
        ({"Network": "0.0.0.0/0"}, "Network is missing"),  # E7
        ({"Network": "10.5.0.0"}, "no ADDRESS/LENGTH"),
        ({"Network": "10.5.0.0/255.255.0.0"}, "no ADDRESS/LENGTH"),
        ({"Network": "10.5.0.0/16/3"}, "no ADDRESS/LENGTH"),
        ({"Network": "10.5.0.0/33"}, "Network: "),
        ({"Network": "10.5.0/16"}, "Network: "),
        ({"Network": "fd00::/48"}, "Network: "),
        ({"Network": 5}, "Network"),
        ({"Network": "10.5.0.0/29"}, "too small"),  # E8
        ({"Network": "10.5.0.0/16", "SubnetLen": 31}, "SubnetLen 31"),
        ({"Network": "10.5.0.0/16", "SubnetLen": 17}, "SubnetLen 17"),
        ({"Network": "10.5.0.0/16", "SubnetLen": -1}, "SubnetLen -1"),
        ({"Network": "10.5.0.0/16", "SubnetLen": 24.0}, "SubnetLen"),
        ({"Network": "10.5.0.0/16", "SubnetLen": "24"}, "SubnetLen"),
        ({"Network": "10.5.0.0/16", "SubnetLen": True}, "SubnetLen"),
        ({"Network": "10.5.0.0/16", "SubnetLen": 10**30}, "SubnetLen"),
        ({"Network": "10.5.0.0/29", "SubnetLen": 30}, "SubnetLen 30"),
        ({"Network": "10.5.0.0/16", "SubnetMin": "10.6.1.0"}, "SubnetMin .*outside"),
        ({"Network": "10.5.0.0/16", "SubnetMax": "10.6.1.0"}, "SubnetMax .*outside"),
        ({"Network": "10.5.0.0/16", "SubnetMin": "10.5.1.128"}, "not the start"),
        ({"Network": "10.5.0.0/16", "SubnetMax": "10.5.1.128"}, "not the start"),
        ({"Network": "10.5.0.0/16", "SubnetMin": "10.5"}, "SubnetMin: "),
        (
            {
                "Network": "10.5.0.0/16",
                "SubnetMin": "10.5.9.0",
                "SubnetMax": "10.5.8.0",
            },
            "above",
        ),
        ({"Network": "10.5.0.0/16", "EnableIPv6": True}, "IPv6Network is missing"),
        ({"Network": "10.5.0.0/16", "EnableIPv4": False}, "EnableIPv4 is false"),
        ({"Network": "10.5.0.0/16", "EnableIPv4": 1}, "EnableIPv4"),
        ({"Network": "10.5.0.0/16", "Backend": "udp"}, "Backend"),
        ({"Network": "10.5.0.0/16", "Backend": {}}, "no Type"),  # section 0.2
        ({"Network": "10.5.0.0/16", "Backend": {"Type": ""}}, "no Type"),
        ({"Network": "10.5.0.0/16", "Backend": {"Type": 5}}, "no Type"),
    ],
)
def test_what_is_refused(members: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkConfigError, match=message) as caught:
        parse(**members)
    assert str(caught.value).startswith("network config: ")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", b"\xff", "[" * 100_000])
def test_what_is_no_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(NetworkConfigError):
        NetworkConfig.parse(text)


@pytest.mark.parametrize(
    ("backend", "type_", "members"),
    [
        (None, "udp", {}),
        ({"Type": "UDP", "Port": 9}, "udp", {"Type": "UDP", "Port": 9}),
        ({"type": "vxlan", "vni": 7}, "vxlan", {"type": "vxlan", "vni": 7}),
        ({"TYPE": "Host-GW", "x": [1]}, "host-gw", {"TYPE": "Host-GW", "x": [1]}),
    ],
)
def test_backend(
    backend: dict[str, Any] | None, type_: str, members: dict[str, Any]
) -> None:
    """Absent is udp (0.2); the type in lower case, the members as they are."""
    config = parse(Network="10.5.0.0/16", Backend=backend)
    assert (config.backend_type, config.backend) == (type_, members)


def test_unset_bounds() -> None:
    """0.0.0.0 and null mean the default; strangers mean nothing (E41)."""
    config = parse(
        Network="10.5.0.0/16",
        SubnetMin="0.0.0.0",
        SubnetMax=None,
        SubnetLen=0,
        flannelette={"x": 1},
    )
    assert config == parse(Network="10.5.0.0/16")
    assert dual(IPv6SubnetMin="::", IPv6SubnetMax=None, IPv6SubnetLen=0) == dual()


@pytest.mark.parametrize(
    ("subnet", "contained"),
    [
        ("10.5.2.0/24", True),
        ("10.5.8.0/24", True),
        ("10.5.1.0/24", False),
        ("10.5.9.0/24", False),
        ("10.5.4.0/25", False),
        ("10.5.4.0/23", False),
        ("10.6.4.0/24", False),
    ],
)
def test_contains(subnet: str, contained: bool) -> None:
    """E14: min, max and length, both ends inclusive."""
    config = parse(Network="10.5.0.0/16", SubnetMin="10.5.2.0", SubnetMax="10.5.8.0")
    assert config.contains(IPv4Network(subnet)) is contained
    assert not config.contains(IPv4Network(subnet), IPv6Network("fd00::/64")), "H2"


names = st.sampled_from(
    ("Network", "network", "SubnetLen", "SubnetMin", "SubnetMax", "EnableIPv4", "x")
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-1, 33)
    | st.floats()
    | st.text()
    | st.sampled_from(["10.5.0.0/16", "10.5.0.0/28", "10.5.4.0", "10.5.200.0"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.one_of(
        st.binary(),
        st.text(),
        st.dictionaries(names, values).map(json.dumps),
        st.fixed_dictionaries(
            {"Network": st.sampled_from(["10.5.0.0/16", "10.5.0.0/28", "10.0.0.0/8"])},
            optional={
                "SubnetLen": st.integers(0, 31),
                "SubnetMin": st.sampled_from(["10.5.0.0", "10.5.0.4", "10.5.4.0"]),
                "SubnetMax": st.sampled_from(["10.5.0.0", "10.5.0.8", "10.5.9.0"]),
                "Backend": st.dictionaries(st.sampled_from(["Type", "type"]), values),
            },
        ).map(json.dumps),
        st.fixed_dictionaries(
            {
                "Network": st.just("10.5.0.0/16"),
                "EnableIPv6": st.just(True),
                "IPv6Network": st.sampled_from(["fd00::/48", "fd00::/124", "\n/48"]),
            },
            optional={
                "IPv6SubnetLen": st.integers(0, 129),
                "IPv6SubnetMin": st.sampled_from(["::", "fd00::", "fd00::4", "\n"]),
                "IPv6SubnetMax": values | st.sampled_from(["::", "fd00:0:0:9::"]),
            },
        ).map(json.dumps),
    )
)
@example('{"Network":"10.5.0.0/16","SubnetMin":"\\n"}')
@example('{"Network":"\\n/16"}')
def test_any_text_is_a_sound_config_or_one_error(text: str | bytes) -> None:
    """Sound: the bounds are subnets of the network, in order, of a length of use."""
    message = ""
    with suppress(NetworkConfigError):
        try:
            config = NetworkConfig.parse(text)
        except NetworkConfigError as error:
            message = str(error)
            raise
        low = IPv4Network((config.subnet_min, config.subnet_len))
        high = IPv4Network((config.subnet_max, config.subnet_len))
        assert low.subnet_of(config.network)
        assert high.subnet_of(config.network)
        assert low <= high
        assert config.network.prefixlen + 2 <= config.subnet_len <= 30
        low6 = high6 = None
        if config.network6 is not None:
            low6 = IPv6Network((str(config.subnet6_min), config.subnet6_len))
            high6 = IPv6Network((str(config.subnet6_max), config.subnet6_len))
            assert low6.subnet_of(config.network6)
            assert high6.subnet_of(config.network6)
            assert low6 <= high6
            assert config.network6.prefixlen + 2 <= config.subnet6_len <= 126
        assert config.contains(low, low6)
        assert config.contains(high, high6)
        assert config.backend_type == config.backend_type.lower() != ""
    assert len(message.splitlines()) <= 1
