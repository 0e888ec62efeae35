"""Keys and values as flannel writes and reads them."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from flannelette.control.lease import (
    Lease,
    LeaseAttrs,
    LeaseFormatError,
    Subnets,
    parse_subnet_key,
    subnet_key,
)

subnets = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 31)).map(
    lambda it: IPv4Network(it, strict=False)
)
subnets6 = st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 127)).map(
    lambda it: IPv6Network(it, strict=False)
)


# Keys.


@pytest.mark.parametrize(
    ("key", "subnet", "subnet6"),
    [
        ("10.5.52.0-24", "10.5.52.0/24", None),
        ("10.12.13.0-24", "10.12.13.0/24", None),
        ("10.12.13.0-24&fd00:12:13::-56", "10.12.13.0/24", "fd00:12:13::/56"),
        ("10.5.52.0-24&fd00:1:2::-64", "10.5.52.0/24", "fd00:1:2::/64"),
        ("10.5.0.0-8", None, None),
        ("10.5.0.2-31", "10.5.0.2/31", None),
        ("0.0.0.0-0&fd00::-64", "0.0.0.0/0", "fd00::/64"),  # E5
    ],
)
def test_keys(key: str, subnet: str | None, subnet6: str | None) -> None:
    """E3, T30."""
    if subnet is None:
        with pytest.raises(LeaseFormatError):
            parse_subnet_key(key)
        return
    four = IPv4Network(subnet)
    six = None if subnet6 is None else IPv6Network(subnet6)
    assert parse_subnet_key(key) == (four, six)
    assert subnet_key(four, six) == key
    assert Lease(four, LeaseAttrs(IPv4Address("192.0.2.1")), six).key == key


@pytest.mark.parametrize(
    "key",
    [
        # T30
        "10",
        "10.12.13.0",
        "10.12.13-24",
        "10.12.13.300-24",
        "10.12.13.0-24hi",
        "&2001::-56",
        "10.12.13.0-24&:12:13:-56",
        "10.12.13.0-24&20011::-56",
        "10.12.13.0-24&2001-56",
        "10.12.13.0-24&2001::",
        "10.12.13.0-24&2001::-56hi",
        # E4, H9
        "10.5.1.0-32",
        "10.5.1.0-24&fd00::-128",
        "10.5.1.0-24&FD00::-64",
        "x10.5.1.0-24",
        "10x5x1.0-24",
        "10.5.1.0-33",
        # Ours: host bits, and second spellings
        "10.5.1.1-24",
        "10.5.1.0-24&fd00::1-64",
        "10.0.0.0-08",
        "010.5.1.0-24",
        "10.5.1.0-24&fd00:0::-64",
        "10.5.1.0-24&fd00::-064",
        "10.5.1.0-24\n",
        "10.5.1.0-2\u0664",
        "",
    ],
)
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(LeaseFormatError):
        parse_subnet_key(key)


@given(subnets, st.none() | subnets6)
def test_keys_round_trip(subnet: IPv4Network, subnet6: IPv6Network | None) -> None:
    assert parse_subnet_key(subnet_key(subnet, subnet6)) == (subnet, subnet6)


@given(
    st.one_of(
        st.text(),
        st.text("0123456789.-&:abcdef"),
        st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,3}){3}-[0-9]{1,2}\Z"),
        st.from_regex(r"\A10\.5\.1\.0-24&[0-9a-f:]+-[0-9]{1,3}\Z"),
    )
)
def test_any_text_is_the_only_key_of_its_subnets_or_no_key(text: str) -> None:
    with suppress(LeaseFormatError):
        assert subnet_key(*parse_subnet_key(text)) == text


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (("10.5.1.0/24", None), ("10.5.1.0/24", None), True),
        (("10.5.1.0/24", None), ("10.5.1.128/25", "fd00::/64"), True),
        (("10.5.1.0/24", None), ("10.5.2.0/24", None), False),
        (("10.5.1.0/24", "fd00::/64"), ("10.5.2.0/24", None), False),
        (("10.5.1.0/24", "fd00::/64"), ("10.5.2.0/24", "fd01::/64"), False),
        (("10.5.1.0/24", "fd00::/64"), ("10.5.2.0/24", "fd00::/48"), True),
    ],
)
def test_subnets_overlap_in_either_ip_version(
    one: tuple[str, str | None], other: tuple[str, str | None], overlap: bool
) -> None:
    first, second = (
        Subnets(IPv4Network(v4), None if v6 is None else IPv6Network(v6))
        for v4, v6 in (one, other)
    )
    assert first.overlaps(second) is overlap
    assert second.overlaps(first) is overlap


def test_subnets_as_text() -> None:
    dual = Subnets(IPv4Network("10.5.1.0/24"), IPv6Network("fd00::/64"))
    assert str(dual) == f"{dual}" == "10.5.1.0/24, fd00::/64"
    assert str(Subnets(dual.v4)) == "10.5.1.0/24"


# Values.


def test_a_value_without_backend_data() -> None:
    """L2, L3: what flannel's udp backend writes."""
    attrs = LeaseAttrs(IPv4Address("1.2.3.4"))
    assert attrs.encode() == b'{"PublicIP":"1.2.3.4","PublicIPv6":null}'


def test_a_value_with_all_members() -> None:
    """L1: order and compactness; section 2's table for vxlan."""
    attrs = LeaseAttrs(
        IPv4Address("1.2.3.4"),
        IPv6Address("2001:DB8::1"),
        "vxlan",
        '{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}',
        '{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:f0"}',
    )
    assert attrs.encode() == (
        b'{"PublicIP":"1.2.3.4","PublicIPv6":"2001:db8::1","BackendType":"vxlan",'
        b'"BackendData":{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"},'
        b'"BackendV6Data":{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:f0"}}'
    )
    assert LeaseAttrs.decode(attrs.encode()) == attrs


V4 = IPv4Address("1.2.3.4")


def test_a_node_that_takes_raw_ipv6_says_so_last() -> None:
    """L4: flanneld ignores our own member; without it nothing changes (L3)."""
    attrs = LeaseAttrs(V4, backend_v6_data="{}", raw_ipv6=True)
    assert attrs.encode() == (
        b'{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendV6Data":{},"RawIPv6":true}'
    )
    assert LeaseAttrs.decode(attrs.encode()) == attrs


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        ("true", True),
        *((value, False) for value in ("false", "null", "1", '"true"', "[true]")),
    ],
)
def test_only_true_means_raw_ipv6(value: str, raw: bool) -> None:
    """Anybody's member of that name costs nobody the lease."""
    for name in ("RawIPv6", "rawipv6", "RAWIPV6"):
        text = f'{{"PublicIP":"1.2.3.4","{name}":{value}}}'
        assert LeaseAttrs.decode(text.encode()) == LeaseAttrs(V4, raw_ipv6=raw)


@pytest.mark.parametrize(
    ("value", "attrs"),
    [
        ('{"PublicIP":"1.2.3.4"}', LeaseAttrs(V4)),
        ('{"publicip":"1.2.3.4","ours":{"x":[1]}}', LeaseAttrs(V4)),
        ('{"PublicIP":"9.9.9.9","publicIP":"1.2.3.4"}', LeaseAttrs(V4)),
        (
            '{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":null,'
            '"BackendData":null,"BackendV6Data":null}',
            LeaseAttrs(V4),
        ),
        (
            '{"PublicIP":"1.2.3.4","BackendType":"extension","BackendData":" x\\n"}',
            LeaseAttrs(V4, backend_type="extension", backend_data='" x\\n"'),
        ),
        (
            ' {"PublicIP" : "1.2.3.4" , "BackendData" : { "b" : [ 1 , true ] } } \n',
            LeaseAttrs(V4, backend_data='{"b":[1,true]}'),
        ),
        (
            b'{"PublicIP":"1.2.3.4","BackendType":"\xff"}',
            LeaseAttrs(V4, backend_type="\ufffd"),
        ),
    ],
)
def test_values_are_read_as_go_reads_them(
    value: str | bytes, attrs: LeaseAttrs
) -> None:
    """L4."""
    assert LeaseAttrs.decode(_bytes(value)) == attrs


@pytest.mark.parametrize(
    "value",
    [
        *("", "null", "[]", "{}", "{", '"1.2.3.4"', "\x00"),
        '{"PublicIP":null}',  # L4, H3
        '{"PublicIP":""}',
        '{"PublicIP":"1.2.3"}',
        '{"PublicIP":"1.2.3.4/24"}',
        '{"PublicIP":"2001:db8::1"}',
        '{"PublicIP":16909060}',
        '{"PublicIP":["1.2.3.4"]}',
        '{"PublicIPv6":"2001:db8::1"}',
        '{"PublicIP":"1.2.3.4","PublicIPv6":"1.2.3.4"}',
        '{"PublicIP":"1.2.3.4","PublicIPv6":""}',
        '{"PublicIP":"1.2.3.4","PublicIPv6":"fe80::1%eth0"}',
        '{"PublicIP":"1.2.3.4","BackendType":7}',
        '{"PublicIP":"1.2.3.4","BackendType":0}',
        '{"PublicIP":"1.2.3.4","BackendType":false}',
        '{"PublicIP":"1.2.3.4","BackendType":{}}',
        '{"PublicIP":"1.2.3.4","BackendData":NaN}',
        '{"PublicIP":"1.2.3.4","BackendData":1e999}',
        '{"PublicIP":"1.2.3.4"}'.encode("utf-16"),
        '{"PublicIP":"1.2.3.4"} trailing',
        "[" * 100_000,
    ],
)
def test_what_is_no_value(value: str | bytes) -> None:
    with pytest.raises(LeaseFormatError):
        LeaseAttrs.decode(_bytes(value))


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
backend_data = json_values.filter(lambda value: value is not None).map(
    lambda value: json.dumps(value, separators=(",", ":"))
)
addresses6 = st.integers(0, 2**128 - 1).map(IPv6Address)


@given(
    st.builds(
        LeaseAttrs,
        st.integers(0, 2**32 - 1).map(IPv4Address),
        st.none() | addresses6,
        st.text(),
        st.none() | backend_data,
        st.none() | backend_data,
        st.booleans(),
    )
)
def test_values_round_trip(attrs: LeaseAttrs) -> None:
    value = attrs.encode()
    assert LeaseAttrs.decode(value) == attrs
    assert b"\n" not in value


members = st.sampled_from(
    ["PublicIP", "publicip", "PublicIPv6", "BackendType", "BackendData", "x"]
)
member_values = json_values | st.sampled_from(["1.2.3.4", "fd00::1", "vxlan"])


@given(
    st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.lists(st.tuples(members, member_values)).map(
            lambda pairs: (
                "{" + ",".join(f'"{n}":{json.dumps(v)}' for n, v in pairs) + "}"
            ).encode()
        ),
    )
)
@example(b'{"PublicIP":"1.2.3.4","BackendType":"\\ud800"}')
@example(b'{"PublicIP":"1.2.3.4","BackendData":"\\ud800\\udfff"}')
def test_any_bytes_are_attributes_or_one_error(value: bytes) -> None:
    with suppress(LeaseFormatError):
        attrs = LeaseAttrs.decode(value)
        assert LeaseAttrs.decode(attrs.encode()) == attrs


def test_no_depth_of_nesting_slips_through_as_another_error() -> None:
    """What the parser just accepts may be too deep for the writer."""
    limit = sys.getrecursionlimit()
    for depth in range(limit - 150, limit + 10):
        nested = '{"PublicIP":"1.2.3.4","BackendData":' + "[" * depth + "]" * depth
        with suppress(LeaseFormatError):
            LeaseAttrs.decode(nested.encode() + b"}")
