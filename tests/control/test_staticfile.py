"""The static store's file: what it says, and what is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import example, given, strategies as st

from flannelette.control import staticfile
from flannelette.control.errors import ConfigError
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.staticfile import StaticFile
from tests.helpers.staticfiles import (
    DUAL_GOOD,
    DUAL_NETWORK,
    GOOD,
    NETWORK,
    dual_node,
    node,
)
from tests.helpers.storerig import dual_attrs_of, network, subnets as subnets_of


def test_the_documented_file() -> None:
    """The example of the module's docstring is one, for udp and for the rest."""
    first, _, rest = (staticfile.__doc__ or "").partition(
        "Each node of a vxlan network"
    )
    indented = [
        "\n".join(line.strip() for line in text.splitlines() if line[:4] == "    ")
        for text in (first, rest)
    ]
    file = StaticFile.parse(indented[0].encode())
    assert json.loads(file.network) == {
        "Network": "10.5.0.0/16",
        "Backend": {"Type": "udp"},
    }
    attrs = LeaseAttrs(IPv4Address("192.0.2.1"))
    lease = Lease(network("10.5.1.0/24"), attrs, permanent=True)
    assert file.leases == {IPv4Address("192.0.2.1"): lease}
    (dual,) = StaticFile.parse(
        "\n".join(indented)
        .replace("udp", "vxlan")
        .replace("[network.", 'EnableIPv6=true\nIPv6Network="fd00:5::/48"\n[network.')
        .encode()
    ).leases.values()
    assert dual.subnets == subnets_of("10.5.1.0/24", "fd00:5:0:1::/64")
    assert dual.attrs == dual_attrs_of("192.0.2.1")


def only_lease(backend: str, entry: str, dual: bool = False) -> Lease:
    text = DUAL_NETWORK if dual else NETWORK
    text = text.replace('Type = "vxlan"', backend) + entry
    (lease,) = StaticFile.parse(text.encode()).leases.values()
    return lease


@pytest.mark.parametrize(
    ("backend", "value"),
    [
        (
            'Type = "vxlan"',
            '{"PublicIP":"192.0.2.9","PublicIPv6":null,"BackendType":"vxlan",'
            '"BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}}',
        ),
        (
            'type = "VXLAN"\nvni = 4096\nPort = 4789',
            '{"PublicIP":"192.0.2.9","PublicIPv6":null,"BackendType":"vxlan",'
            '"BackendData":{"VNI":4096,"VtepMAC":"02:00:00:00:00:09"}}',
        ),
        ('Type = "udp"', '{"PublicIP":"192.0.2.9","PublicIPv6":null}'),
        ('Type = "alloc"', '{"PublicIP":"192.0.2.9","PublicIPv6":null}'),
        (
            'Type = "extension"',
            '{"PublicIP":"192.0.2.9","PublicIPv6":null,"BackendType":"extension"}',
        ),
        (
            'Type = "host-gw"',
            '{"PublicIP":"192.0.2.9","PublicIPv6":null,"BackendType":"host-gw"}',
        ),
    ],
)
def test_a_node_says_what_flanneld_would_say(backend: str, value: str) -> None:
    """L1 to L3, L6, V1, and the table of section 2."""
    mac = "02:00:00:00:00:09" if "vxlan" in backend.lower() else ""
    lease = only_lease(backend, node("192.0.2.9", "10.5.9.0/24", mac=mac))
    assert lease.attrs.encode().decode() == value
    assert lease.key == "10.5.9.0-24"


@pytest.mark.parametrize(
    ("backend", "more", "value"),
    [
        (
            'Type = "vxlan"\nVNI = 0',
            {},
            '{"PublicIP":"192.0.2.9","PublicIPv6":"2001:db8::9","BackendType":"vxlan",'
            '"BackendData":{"VNI":0,"VtepMAC":"02:00:00:00:00:09"},'
            '"BackendV6Data":{"VNI":0,"VtepMAC":"02:00:00:00:00:09"}}',
        ),
        (
            'Type = "host-gw"',
            {"mac": ""},
            '{"PublicIP":"192.0.2.9","PublicIPv6":"2001:db8::9",'
            '"BackendType":"host-gw"}',
        ),
        (
            'Type = "udp"',
            {"mac": "", "public_ipv6": ""},
            '{"PublicIP":"192.0.2.9","PublicIPv6":null,"RawIPv6":true}',
        ),
        (
            'Type = "alloc"',
            {"mac": "", "public_ipv6": ""},
            '{"PublicIP":"192.0.2.9","PublicIPv6":null}',
        ),
        (
            'Type = "udp"',
            {"mac": ""},
            '{"PublicIP":"192.0.2.9","PublicIPv6":"2001:db8::9","RawIPv6":true}',
        ),
    ],
)
def test_what_a_node_says_in_dual_stack(
    backend: str, more: dict[str, str], value: str
) -> None:
    """The nodes of a file are ours, so that each takes raw IPv6 over udp."""
    lease = only_lease(backend, dual_node(9, **more), dual=True)
    assert lease.attrs.encode().decode() == value
    assert lease.key == "10.5.9.0-24&fd00:5:0:9::-64"


@pytest.mark.parametrize(
    "mac", ["02-00-00-00-00-0A", "0200.0000.000a", "02:00:00:00:00:0A"]
)
def test_a_mac_is_read_as_go_reads_it(mac: str) -> None:
    """L6."""
    lease = only_lease('Type = "vxlan"', node("192.0.2.9", "10.5.9.0/24", mac=mac))
    assert lease.attrs.backend_data == '{"VNI":1,"VtepMAC":"02:00:00:00:00:0a"}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + node("192.0.2.4", "10.5.4.0/24", mac=""), "mac is missing"),
        (GOOD + node("192.0.2.4", "10.5.4.0/24", mac="x"), "not a MAC"),
        (GOOD + node("192.0.2.4", "10.5.4.0/24", mac="00:" * 5 + "00"), "no device's"),
        (GOOD + node("192.0.2.4", "10.5.4.0/24", mac="ff:" * 5 + "ff"), "no device's"),
        (
            GOOD + node("192.0.2.4", "10.5.4.0/24", mac="02-00-00-00-00-02"),
            "mac 02-00-00-00-00-02 comes twice",
        ),
        (
            GOOD.replace("vxlan", "udp"),
            "node 1: mac is given, which this network has no use for",
        ),
        (GOOD + dual_node(4), "node 4: subnet6 is given"),
        (GOOD + dual_node(4, subnet6=""), "node 4: public-ipv6 is given"),
        (DUAL_GOOD + dual_node(4, subnet6=""), "node 4: subnet6 is missing"),
        (DUAL_GOOD + dual_node(4, public_ipv6=""), "node 4: public-ipv6 is missing"),
        (
            (DUAL_NETWORK + dual_node(1, mac="", public_ipv6="")).replace(
                "vxlan", "host-gw"
            ),
            "node 1: public-ipv6 is missing",
        ),
        (DUAL_GOOD + dual_node(4, public_ipv6="192.0.2.4"), "node 4: .*192.0.2.4"),
        (DUAL_GOOD + dual_node(4, public_ipv6="fe80::4%eth0"), "node 4: .*zone"),
        (
            DUAL_GOOD + dual_node(4, public_ipv6="2001:db8:0::2"),
            "node 4: public-ipv6 2001:db8:0::2 comes twice",
        ),
        (DUAL_GOOD + dual_node(4, subnet6="10.5.4.0/24"), "node 4: .*10.5.4.0"),
        (DUAL_GOOD + dual_node(4, subnet6="fd00:5::4%1/64"), "node 4: .*zone"),
        (DUAL_GOOD + dual_node(4, subnet6="fd00:5::4/64"), "node 4: .*host bits"),
        (
            DUAL_GOOD + dual_node(4, subnet6="fd00:5:0:4::/128"),
            "node 4: subnet6 fd00:5:0:4::/128 is longer than /127",
        ),
        (
            DUAL_GOOD + dual_node(4, subnet6="fd00:6:0:4::/64"),
            "node 4: subnet6 fd00:6:0:4::/64 lies outside Network fd00:5::/48",
        ),
        (
            DUAL_GOOD + dual_node(4, subnet6="fd00::/16"),
            "node 4: subnet6 fd00::/16 lies outside Network fd00:5::/48",
        ),
        (
            DUAL_GOOD + dual_node(4, subnet6="fd00:5:0:2:8000::/65"),
            "node 192.0.2.4: .* overlaps fd00:5:0:2::/64 of node 192.0.2.2",
        ),
        (DUAL_GOOD.replace("IPv6Network", "IPv4Network"), "unknown member"),
        (DUAL_GOOD.replace("fd00:5::/48", "fd00:5::/127"), "too small"),
    ],
)
def test_what_is_refused_of_vxlan_and_of_dual_stack(content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        StaticFile.parse(content.encode())
    assert "\n" not in str(caught.value)


subnet_texts = st.tuples(st.integers(0, 255), st.integers(20, 31)).map(
    lambda it: str(IPv4Network((f"10.5.{it[0]}.0", it[1]), strict=False))
)


@given(st.one_of(st.binary(), st.text().map(str.encode)))
@example(GOOD.encode())
@example(b"x = 1" + b"1" * 5000)
def test_any_bytes_are_a_file_or_a_config_error(content: bytes) -> None:
    with suppress(ConfigError):
        StaticFile.parse(content)


@given(
    st.lists(
        st.tuples(st.ip_addresses(v=4).map(str), st.one_of(subnet_texts, st.text())),
        max_size=6,
    )
)
def test_an_accepted_list_is_unambiguous(nodes: list[tuple[str, str]]) -> None:
    text = NETWORK
    for number, (public_ip, subnet) in enumerate(nodes):
        text += f"[[node]]\npublic-ip = {public_ip!r}\nsubnet = {json.dumps(subnet)}\n"
        text += f'mac = "02:00:00:00:00:{number:02x}"\n'
    accepted, message = True, ""
    try:
        leases = StaticFile.parse(text.encode()).leases
        assert {(str(ip), str(it.subnet)) for ip, it in leases.items()} == set(nodes)
    except ConfigError as error:
        accepted, message = False, str(error)
    assert accepted is unambiguous(nodes)
    assert len(message.splitlines()) <= 1


def unambiguous(nodes: list[tuple[str, str]]) -> bool:
    """The obvious twin: every node compared with every other."""
    try:
        subnets = [IPv4Network(subnet) for _, subnet in nodes]
    except ValueError:
        return False
    return all(
        one.prefixlen < 32
        and one.subnet_of(network("10.5.0.0/16"))
        and not any(one.overlaps(other) for other in subnets[:n])
        and nodes[n][0] not in [public_ip for public_ip, _ in nodes[:n]]
        for n, one in enumerate(subnets)
    )
