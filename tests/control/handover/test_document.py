"""What one daemon tells the next: any bytes give a document that can be used, or one
exception."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.control.handover.document import (
    Document,
    HandoverError,
    Opened,
    Tun,
    decode,
    encode,
)
from flannelette.dataplane.forwarder import Endpoint, Route, Vxlan

ROUTES = [
    Route.to(IPv4Network("10.5.2.0/24"), IPv4Address("192.0.2.2"), 8472, 0x02),
    Route.to(IPv6Network("fd00:5:0:2::/64"), IPv6Address("2001:db8::2"), 8472, 0x03),
]
DOCUMENT = Document(
    Opened(
        IPv4Address("192.0.2.1"),
        8472,
        IPv6Address("2001:db8::1"),
        2,
        8,
        frozenset({"tso", "gro"}),
    ),
    Tun("flannel0", True, True, False, 1),
    Endpoint(
        IPv4Address("10.5.1.0"),
        1450,
        IPv6Address("fd00:5:0:1::"),
        1430,
        Vxlan(1, 0x020000000001),
    ),
    ROUTES,
)
PLAIN = replace(
    DOCUMENT, endpoint=Endpoint(IPv4Address("10.5.1.0"), 1472), routes=ROUTES[:1]
)


@pytest.mark.parametrize("document", [DOCUMENT, PLAIN])
def test_what_is_told_is_understood(document: Document) -> None:
    assert decode(encode(document)) == document


def changed(path: str, value: Any) -> bytes:
    """The document with one member changed; None: without it."""
    whole = json.loads(encode(DOCUMENT))
    *way, last = (int(it) if it.isdecimal() else it for it in path.split("."))
    inner = whole
    for step in way:
        inner = inner[step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2),
        ("version", "1"),
        ("opened", None),
        ("opened.address", "192.0.2"),
        ("opened.address", 7),
        ("opened.address6", "fe80::1%eth0"),
        ("opened.port", 0),
        ("opened.port", 65536),
        ("opened.queues", 0),
        ("opened.queues", 257),
        ("opened.flows", 9),
        ("opened.offload", [1]),
        ("tun.name", None),
        ("tun.unsteered", -1),
        ("tun.unsteered", 4096),
        ("endpoint.mtu", 67),
        ("endpoint.mtu", 65508),
        ("endpoint.mtu6", 1279),
        ("endpoint.vxlan", [1 << 24, 1]),
        ("endpoint.vxlan", [1, 1 << 48]),
        ("endpoint.vxlan", [-1, 1]),
        ("routes.0", [1, 24, 1, 8472]),
        ("routes.0.3", 0),
        ("routes.1.0", -1),
        ("routes.1.2", 1 << 128),
        ("routes", {}),
    ],
)
def test_what_cannot_be_used(path: str, value: object) -> None:
    with pytest.raises(HandoverError):
        decode(changed(path, value))


@given(st.binary())
def test_any_bytes(text: bytes) -> None:
    with pytest.raises(HandoverError):
        decode(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
PATHS = ["version", "opened", "opened.port", "opened.flows", "opened.address"]
PATHS += ["opened.offload", "tun.name", "tun.tso", "tun.unsteered", "endpoint.mtu"]
PATHS += ["endpoint.address6", "endpoint.vxlan", "endpoint.vxlan.0", "routes.0"]
PATHS += [f"routes.{n}.{m}" for n in (0, 1) for m in range(7)]


@settings(max_examples=300)
@given(st.sampled_from(PATHS), JSON)
def test_any_member(path: str, value: object) -> None:
    try:
        document = decode(changed(path, value))
    except HandoverError:
        return
    assert decode(encode(document)) == document
