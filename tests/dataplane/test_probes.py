"""Probes: both paths reply to them, to strangers too, and to nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from flannelette.dataplane.path import Path
from flannelette.dataplane.purecore import PureCore
from flannelette.encap import probe
from flannelette.encap.drop import Drop
from flannelette.native.api import (
    Burst,
    Direction,
    PathConfig,
    PeerCheck,
    Vxlan,
)
from flannelette.native.fastpath import FastPath
from tests.helpers.bench import bench, drain
from tests.helpers.packets import MTU, PEER, PORT, ROUTE, TUN_ADDRESS, packet

CONFIG = PathConfig(-1, -1, -1, mtu=MTU, address=int(TUN_ADDRESS))
NONCE = b"12345678"


@pytest.fixture(params=["udp", "vxlan"])
def config(request: pytest.FixtureRequest) -> PathConfig:
    if request.param == "udp":
        return CONFIG
    return replace(CONFIG, vxlan=Vxlan(1, 0x02AABBCCDDEE))


@pytest.fixture(params=[FastPath, PureCore])
def path(
    request: pytest.FixtureRequest, config: PathConfig
) -> Iterator[FastPath | PureCore]:
    made = request.param(replace(config, peer_check=PeerCheck.PEER))
    made.set_routes([ROUTE])
    yield made
    if isinstance(made, FastPath):
        made.close()


def drops(path: FastPath | PureCore) -> int:
    if isinstance(path, PureCore):
        return sum(path.tallies[Direction.RX].drops)
    return sum(path.counters(Direction.RX).drops)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("length", [28, 29, 1500, 9000])
def test_the_reply(path: FastPath | PureCore, length: int, known: bool) -> None:
    address = int(PEER) + (not known)
    asked = probe.request(NONCE, length)
    assert path.unwrap([Burst(asked, length, address, 40000)]) == []
    (reply,) = path.replies
    assert (reply.address, reply.port) == (address, 40000)
    assert probe.parse(reply.data) == (probe.Kind.REPLY, known, length, NONCE)
    assert drops(path) == 0
    path.unwrap([Burst(reply.data, len(reply.data), address, 40000)])
    assert path.replies == []  # nobody replies to a reply
    assert drops(path) == 1


def test_many_in_a_burst(path: FastPath | PureCore) -> None:
    asked = b"".join(probe.request(bytes([n]) * 8, 100) for n in range(5))
    path.unwrap([Burst(asked + b"short", 100, int(PEER), PORT)])
    nonces = [probe.parse(reply.data).nonce for reply in path.replies]
    assert nonces == [bytes([n]) * 8 for n in range(5)]
    assert drops(path) == 1


@given(
    first=st.integers(0, 27),
    bits=st.integers(1, 255),
    length=st.integers(0, 60),
    tunnel=st.booleans(),
)
def test_what_is_no_probe(first: int, bits: int, length: int, tunnel: bool) -> None:
    """Every byte before the nonce matters, but for flags and length."""
    datagram = bytearray(probe.request(NONCE, max(length, 28))[:length])
    if first < length:
        datagram[first] ^= bits
    spoilt = length < 28 or first < 17
    config = replace(CONFIG, vxlan=Vxlan(1, 2) if tunnel else None)
    pure, fast = PureCore(config), FastPath(config)
    try:
        for path in (pure, fast):
            assert path.unwrap([Burst(bytes(datagram), 2000, 5, 6)]) == []
        assert pure.replies == fast.replies
        assert len(fast.replies) == (not spoilt)
        assert drops(fast) == drops(pure) == spoilt
    finally:
        fast.close()


@pytest.mark.parametrize("datapath", ["native", "python"])
def test_through_the_pumps(datapath: str) -> None:
    """By the socket that was asked, and not more often than ICMP errors are sent."""
    with bench(datapath) as it:
        here = it.underlay.getsockname()
        rest = packet("10.5.2.2", "10.5.1.2")
        for _ in range(200):
            it.peer.sendto(probe.request(NONCE), here)
        it.peer.sendto(rest, here)
        pump_all(it.path)
        got = drain(it.peer)
        counters = it.path.counters(Direction.RX)
        assert 0 < len(got) < 200
        assert {probe.parse(reply).kind for reply in got} == {probe.Kind.REPLY}
        assert counters.answers == len(got)
        assert counters.answers_limited == 200 - len(got)
        assert counters.packets == len(drain(it.kernel)) == 1
        assert not any(counters.drops[drop] for drop in Drop)


def pump_all(path: Path) -> None:
    while path.pump(Direction.RX, 100):
        pass
