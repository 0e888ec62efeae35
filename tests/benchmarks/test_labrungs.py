"""What the lab says of its rungs before anything is measured."""

from __future__ import annotations

import re

import pytest

from flannelette.benchmarks.labdocument import PLACES, PlaceName, Theory
from flannelette.benchmarks.labrungs import BY_RUNG, RUNGS, RungKind, theory

MTU, PAYLOAD = 1472, 1420


def test_each_rung_is_a_contender_and_switches_something() -> None:
    for kind in RUNGS:
        assert kind.contender.name == kind.name
    assert [kind.name for kind in RUNGS if not kind.switched] == ["none"]


@pytest.mark.parametrize("kind", RUNGS, ids=lambda kind: kind.name)
def test_each_gain_is_two_sentences(kind: RungKind) -> None:
    sentences = re.findall(r"[^.]+\.(?: |$)", kind.gain)
    assert len(sentences) == 2


def test_only_a_daemon_has_places_of_its_own() -> None:
    found = {kind.name: len(kind.places) for kind in RUNGS}
    assert {name for name, places in found.items() if places == 2} == {"none", "vxlan"}
    assert set(found.values()) == {2, len(PLACES)}
    assert [kind.name for kind in RUNGS if not kind.has_timers] == [
        *("none", "vxlan", "python")
    ]


@pytest.mark.parametrize("name", ["python", "c"])
@pytest.mark.parametrize("place", PLACES[1:-1])
def test_one_packet_a_call(name: str, place: PlaceName) -> None:
    assert theory(BY_RUNG[name], place, MTU) == Theory(MTU, 1, 1)


def test_what_applications_copy() -> None:
    for name in ("none", "threads"):
        found = theory(BY_RUNG[name], "app_receive", MTU)
        assert found.bytes == PAYLOAD
        assert found.calls == pytest.approx(PAYLOAD / 131072)


def test_what_each_step_shares() -> None:
    batched, gso, tun = (BY_RUNG[name] for name in ("batched", "gso", "tun"))
    assert theory(batched, "wire_send", MTU) == Theory(MTU, 1 / 64, 1)
    assert theory(batched, "tun_read", MTU) == Theory(MTU, 1, 1)
    assert theory(gso, "wire_send", MTU) == Theory(MTU, 1 / 64, 1 / 44)
    assert theory(gso, "tun_write", MTU) == Theory(MTU, 1, 1)
    frame = theory(tun, "tun_read", MTU)
    assert frame.calls == frame.units == 1 / 45
    assert frame.bytes == pytest.approx(PAYLOAD + (52 + 10) / 45)  # headers once
    assert theory(tun, "wire_send", MTU).calls == 1 / 90


def test_nobody_does_worse_than_the_rung_below() -> None:
    daemons = [kind for kind in RUNGS if kind.contender.flags is not None]
    for place in PLACES[1:-1]:
        calls = [theory(kind, place, MTU).calls for kind in daemons]
        assert calls == sorted(calls, reverse=True)
