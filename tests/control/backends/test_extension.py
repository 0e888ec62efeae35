"""What the extension backend makes of its commands and of leases: flannel-behaviour.md
7.5, 0.2, L7."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.control.backends.extension import (
    ExtensionBackend,
    ExtensionRoute,
    backend_data,
    expand,
    said,
    startup_variables,
    words,
)
from flannelette.control.errors import NetworkConfigError
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.dataplane.forwarder import Route

SUBNET, SUBNET6 = IPv4Network("10.5.7.0/24"), IPv6Network("fd00:5:0:7::/64")
PEER, PEER6 = IPv4Address("192.0.2.7"), IPv6Address("2001:db8::7")
PUBLIC = IPv4Address("198.51.100.7")
ME = External("eth0", 2, 1500, PEER, PUBLIC, PEER6, PEER6)


def network(members: str = "", six: bool = False) -> NetworkConfig:
    dual = '"EnableIPv6": true, "IPv6Network": "fd00:5::/48",' if six else ""
    backend = f'{{"Type": "extension"{members}}}'
    return NetworkConfig.parse(
        f'{{"Network": "10.5.0.0/16", {dual} "Backend": {backend}}}'
    )


def backend(members: str = "", six: bool = False) -> ExtensionBackend:
    return ExtensionBackend.from_config(network(members, six))


def peer(data: str | None = None, kind: str = "extension") -> Lease:
    return Lease(SUBNET, LeaseAttrs(PEER, PEER6, kind, data), SUBNET6)


# ---- configuration and leases --------------------------------------------------------


def test_commands_in_any_case_and_none_of_them_needed() -> None:
    assert backend() == ExtensionBackend()
    made = backend(', "presTartupCommand": "a b", "SubnetAddCommand": null')
    assert made == ExtensionBackend(pre_startup="a b")


@pytest.mark.parametrize("wrong", ["1", "[]", "{}", "true"])
def test_a_command_is_a_string(wrong: str) -> None:
    with pytest.raises(NetworkConfigError, match="SubnetAddCommand is not a string"):
        backend(f', "SubnetAddCommand": {wrong}')


@pytest.mark.parametrize("wrong", [r"a\u0000b", r"a \ud800"])
def test_a_command_that_no_program_can_be_told(wrong: str) -> None:
    with pytest.raises(NetworkConfigError, match="PreStartupCommand is no command"):
        backend(f', "PreStartupCommand": "{wrong}"')


def test_data_nested_too_deep_is_an_objection_whoever_could_read_it() -> None:
    deep = peer("[" * 10_000 + "]" * 10_000)
    assert backend().objection(deep, peer()) == "BackendData is nested too deep"


def test_our_lease_names_the_interfaces_address() -> None:
    """Section 2: not the public one."""
    plain = b'{"PublicIP":"192.0.2.7","PublicIPv6":null,"BackendType":"extension"}'
    assert backend().attrs(ME, mac=1).encode() == plain
    six = plain.replace(b"null", b'"2001:db8::7"')
    assert backend(six=True).attrs(ME, mac=1).encode() == six
    assert not backend().dual_underlay
    assert backend(six=True).dual_underlay


def test_mtu_s4() -> None:
    assert backend().mtus(1500) == (1500, 0)
    assert backend(six=True).mtus(1500) == (1500, 1500)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", '""'),
        ("02:00:00:00:00:01", '"02:00:00:00:00:01"'),
        ('a "b"\\\n\tc', '"a \\"b\\"\\\\\\n\\tc"'),
        ("<a>&\u2028", '"\\u003ca\\u003e\\u0026\\u2028"'),
        ("\x01\x7fä\U0001f9f5", '"\\u0001\x7fä\U0001f9f5"'),
    ],
)
def test_output_travels_as_go_writes_it(text: str, data: str) -> None:
    assert backend_data(text) == data
    assert said(data) == text


@settings(max_examples=30)
@given(st.text())
def test_any_output_comes_back(text: str) -> None:
    data = backend_data(text)
    decoded = LeaseAttrs.decode(LeaseAttrs(PEER, None, "extension", data).encode())
    assert said(decoded.backend_data) == text


def test_objections_l7() -> None:
    lease = peer()
    assert backend().objection(lease, lease) is None
    assert backend().objection(peer('"x"'), lease) is None
    assert backend().objection(peer("{}"), lease) == "BackendData is no string"
    assert (
        backend().objection(peer(kind="vxlan"), lease) == "backend vxlan, not extension"
    )
    assert backend().objection(peer(kind=""), lease) == "backend udp, not extension"


def test_one_route_for_a_lease_with_all_that_is_told() -> None:
    [(subnet, route)] = backend(six=True).routes(peer('"it"')).items()
    assert subnet == SUBNET
    assert isinstance(route, ExtensionRoute)
    assert tuple(route) == tuple(Route.to(SUBNET, PEER))
    assert route.told.data == "it"
    assert route.told.variables == {
        "SUBNET": "10.5.7.0/24",
        "IPV6SUBNET": "fd00:5:0:7::/64",
        "PUBLIC_IP": "192.0.2.7",
        "PUBLIC_IPV6": "2001:db8::7",
    }


def test_who_says_something_else_is_another_route() -> None:
    """Else nobody would be told (E31)."""
    one, same, other = (ExtensionRoute.of(peer(data)) for data in ('"1"', '"1"', '"2"'))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert not one == other  # noqa: SIM201 (another method)
    assert one != Route.to(SUBNET, PEER)


def test_at_startup_without_ipv6() -> None:
    lease = Lease(SUBNET, LeaseAttrs(PEER, None, "extension"))
    assert startup_variables(network(), lease) == {
        "NETWORK": "10.5.0.0/16",
        "SUBNET": "10.5.7.0/24",
        "IPV6SUBNET": "",
        "PUBLIC_IP": "192.0.2.7",
        "PUBLIC_IPV6": "",
    }


# ---- no shell ------------------------------------------------------------------------

VARIABLES = {"A": "1", "LONG_name9": "a b", "9": "nine", "*": "star", "": "never"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A", "1"),
        ("${A}", "1"),
        ("x$A-y", "x1-y"),
        ("$A$A", "11"),
        ("$LONG_name9.", "a b."),
        ("$AB", ""),
        ("${not set}", ""),
        ("$", "$"),
        ("$$", ""),
        ("a$", "a$"),
        ("$ A", "$ A"),
        ("$.", "$."),
        ("$9x", "ninex"),
        ("${*}$*", "starstar"),
        ("${}", ""),
        ("${A", "A"),
        ("'$A'", "'1'"),
        ("\\$A", "\\1"),
        ("`$A`", "`1`"),
        ("$(A)", "$(A)"),
    ],
)
def test_expansion_is_gos(text: str, expanded: str) -> None:
    """os.Expand, tried out with Go itself."""
    assert expand(text, VARIABLES) == expanded


def test_split_first_then_expanded() -> None:
    """A value with a blank in it is one word; quotes are but characters."""
    assert words('  ip\troute add "$A" $LONG_name9 \n', VARIABLES) == [
        *("ip", "route", "add"),
        *('"1"', "a b"),
    ]
    assert words(" \n", VARIABLES) == []


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_any_command_is_split(text: str, variables: dict[str, str]) -> None:
    assert all(isinstance(word, str) for word in words(text, variables))


def test_json_of_a_lone_surrogate_is_some_string() -> None:
    assert said(json.dumps("\ud800"))
