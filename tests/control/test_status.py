"""`flannelette status`: what a person reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from flannelette.control.errors import HostError
from flannelette.control.status import render
from flannelette.control.text import WIDTH
from tests.helpers import statusdocuments

COUNTERS = {**statusdocuments.direction(0), "packets": 1234567, "bytes": 987654321}
DOCUMENT = statusdocuments.document(
    93784.5,
    network="10.5.0.0/16",
    routes=[
        {"subnet": "10.5.2.0/24", "peer": "192.0.2.2:8285", "direct": False},
        {"subnet": "10.5.3.0/24", "peer": "192.0.2.3:8285", "direct": False},
    ],
    counters={"tx": COUNTERS, "rx": COUNTERS},
    repairs=3,
)
DOCUMENT["node"] |= {"address": "10.0.0.1", "offloads": ["vnet", "gso"]}


def changed(**changes: Any) -> dict[str, Any]:
    """The document with other members; a__b is the member b of a."""
    document: dict[str, Any] = json.loads(json.dumps(DOCUMENT))
    for path, value in changes.items():
        *way, last = path.split("__")
        place = document
        for name in way:
            place = place[name]
        place[last] = value
    return document


def test_a_node_at_work() -> None:
    assert render(DOCUMENT).splitlines() == [
        "flannelette 0.1.0, ready, up 1 d 2 h",
        "node     192.0.2.1, by eth0 (10.0.0.1)",
        "backend  udp, port 8285, native path, thread driver",
        "device   flannel0, MTU 1472",
        "offload  vnet, gso",
        "peers    peer check",
        "network  10.5.0.0/16",
        "lease    10.5.1.0/24, expires in 23 h 59 min",
        "store    etcd, connected, revision 4210",
        "repairs  3",
        "tx       1,234,567 packets, 987,654,321 bytes",
        "rx       1,234,567 packets, 987,654,321 bytes",
        "routes   2",
        "         10.5.2.0/24 to 192.0.2.2:8285",
        "         10.5.3.0/24 to 192.0.2.3:8285",
    ]


def test_vxlan_in_dual_stack() -> None:
    """With the longest addresses there are, every line fits."""
    six = "2001:db8:ffff:ffff:ffff:ffff:ffff:fff1"
    document = changed(
        node__public_ipv6=six,
        node__backend="vxlan",
        node__port=8472,
        node__vni=16777215,
        node__mac="0a:00:00:00:00:01",
        node__mtu=1450,
        node__mtu6=1430,
        network="10.5.0.0/16, fd00:5::/48",
        lease__subnet6="fd00:5:0:1::/64",
        routes=[
            {"subnet": "fd00:5:9::/64", "peer": f"[{six}]:8472", "direct": True},
        ],
        ignored=[{"subnet": "10.5.9.0/24, fd00:5:0:9::/64", "reason": "our own MAC"}],
    )
    shown = render(document).splitlines()
    assert all(len(line) <= WIDTH for line in shown)
    assert shown[1:5] == [
        f"node     192.0.2.1, {six}, by eth0 (10.0.0.1)",
        "backend  vxlan, VNI 16777215, port 8472, native path, thread driver",
        "device   flannel0, MTU 1450, 1430 for IPv6",
        "         MAC 0a:00:00:00:00:01",
    ]
    assert "lease    10.5.1.0/24, fd00:5:0:1::/64, expires in 23 h 59 min" in shown
    assert shown[-5:] == [
        "routes   1",
        f"         fd00:5:9::/64 to [{six}]:8472,",
        "         directly",
        "ignored  1",
        "         10.5.9.0/24, fd00:5:0:9::/64: our own MAC",
    ]


def test_what_the_kernel_carries_it_counts() -> None:
    document = changed(
        counters=None,
        node__datapath="kernel",
        node__backend="host-gw",
        node__port=None,
        node__device=None,
    )
    shown = render(document).splitlines()
    assert "backend  host-gw, kernel path" in shown
    assert "device   none, MTU 1472" in shown
    labels = [line.split()[0] for line in shown]
    assert not {"tx", "rx", "offload", "queues", "peers"} & set(labels)


def test_a_node_that_waits_for_its_network() -> None:
    nothing = dict.fromkeys(DOCUMENT["node"]) | {
        "datapath": "c",
        "driver": "loop",
        "peer_check": "off",
        "queues": 2,
        "offloads": [],
    }
    document = changed(
        started=False,
        ready=False,
        not_ready="no network config at /coreos.com/network/config",
        node=nothing,
        network=None,
        lease=None,
        routes=[],
        last_error="no network config at /coreos.com/network/config",
        store__connected=False,
        store__error="connection refused",
        store__resyncs=1,
        store__skipped=1234,
    )
    assert render(document).splitlines()[:8] == [
        "flannelette 0.1.0, not ready, up 1 d 2 h",
        "error    no network config at /coreos.com/network/config",
        "node     not known yet",
        "network  not known yet",
        "lease    none yet",
        "store    etcd, not connected, revision 4210, 1 resyncs, 1,234 skipped",
        "         connection refused",
        "repairs  3",
    ]


@pytest.mark.parametrize(
    ("steering", "line"),
    [
        ("fixed", "queues   4, fixed steering"),
        ("automatic", "queues   4, automatic steering"),
        (None, "queues   4"),  # while the TUN is lost
    ],
)
def test_queues_are_shown_where_there_are_several(
    steering: str | None, line: str
) -> None:
    shown = render(changed(node__queues=4, node__steering=steering)).splitlines()
    assert line in shown
    assert "queues" not in render(DOCUMENT)


def test_why_a_node_that_has_started_is_not_ready() -> None:
    document = changed(ready=False, not_ready="the TUN is lost", last_error="no driver")
    assert render(document).splitlines()[:3] == [
        "flannelette 0.1.0, not ready, up 1 d 2 h",
        "because  the TUN is lost",
        "error    no driver",
    ]


def test_there_may_be_no_store_yet() -> None:
    assert "store    not open yet" in render(changed(store=None))


def test_drops_are_sorted_by_count_and_zeros_hidden() -> None:
    drops = {"short": 7, "ttl": 0, "no_route": 1000, "checksum": 7}
    text = render(changed(counters__rx__drops=drops))
    assert "         dropped: 1,000 no_route, 7 checksum, 7 short" in text.splitlines()
    assert "ttl" not in text
    assert text.count("dropped") == 1
    assert "dropped" not in render(changed(counters__rx__drops={"ttl": 0}))


def test_icmp_errors_are_told_when_there_are_any() -> None:
    document = changed(counters__tx__answers=5, counters__tx__answers_limited=1200)
    assert "ICMP errors: 5 sent, 1,200 kept back" in render(document)
    assert "ICMP" not in render(DOCUMENT)


def test_what_went_over_the_border_is_told_when_anything_did() -> None:
    """Frames, messages, the calls for both, and pumps."""
    document = changed(
        counters__rx__frames=1200,
        counters__rx__tun_calls=1300,
        counters__rx__messages=40,
        counters__rx__wire_calls=50,
        counters__rx__pumps=7,
    )
    line = "         1,200 frames, 40 messages, 1,350 calls, 7 pumps"
    shown = render(document).splitlines()
    assert shown[shown.index(line) - 1].startswith("rx ")
    assert "pumps" not in render(DOCUMENT)


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (None, "10.5.1.0/24, permanent"),
        (0.4, "10.5.1.0/24, expires in 0 s"),
        (-1.0, "10.5.1.0/24, expired"),
        (60, "10.5.1.0/24, expires in 1 min 0 s"),
    ],
)
def test_lease(left: float | None, text: str) -> None:
    assert f"lease    {text}" in render(changed(lease__expires_in=left)).splitlines()


def test_every_line_fits_and_steers_no_terminal() -> None:
    document = changed(
        last_error="x" * 200 + "\x1b[2J\nroutes 0\r" + "word " * 40,
        counters__tx__drops={f"a_long_reason_{n}": 2**64 - n for n in range(9)},
        counters__tx__packets=2**64 - 1,
        counters__tx__bytes=2**64 - 1,
        store__error="e" * 81,
    )
    text = render(document)
    assert all(len(line) <= WIDTH and line.isprintable() for line in text.splitlines())
    assert r"\x1b[2J\nroutes" in text.replace("\n         ", "")


def test_members_that_we_do_not_know_are_passed_over() -> None:
    """A newer daemon may say more."""
    assert render(changed(more=1, node__more=2)) == render(DOCUMENT)


@pytest.mark.parametrize(
    "change",
    [
        {"routes": None},
        {"uptime": "12"},
        {"counters__rx__drops": [1]},
        {"lease__subnet": 7},
        {"node": {}},
    ],
    ids=str,
)
def test_another_shape_is_one_error(change: dict[str, Any]) -> None:
    with pytest.raises(HostError, match="status is not understood"):
        render(changed(**change))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(DOCUMENT)), json_values))
def test_any_document_gives_text_or_one_error(parts: dict[str, Any]) -> None:
    document = json.loads(json.dumps({**DOCUMENT, **parts}))
    try:
        text = render(document)
    except HostError:
        return
    assert text.startswith("flannelette")
