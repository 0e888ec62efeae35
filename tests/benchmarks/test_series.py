"""A series of rounds, on stands that are only pretended."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flannelette.benchmarks import series
from flannelette.benchmarks.contenders import BY_NAME, MAIN, Contender
from flannelette.benchmarks.measures import MEASURES, Measure, Tools
from flannelette.benchmarks.micro import NO_WIRE, Micro
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.results import Results
from flannelette.benchmarks.screen import Screen
from flannelette.benchmarks.series import Plan, Progress, turns
from tests.helpers.terminal import Terminal


def plan(**changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "rounds": 2,
        "seconds": 1,
        "wires": ("nic", "plain"),
        "contenders": None,
        "measures": None,
        "flanneld": Path("/nonexistent"),
    }
    return Plan(**settings | changes)


def test_on_nic_everything_elsewhere_what_the_bars_need() -> None:
    it = plan()
    assert it.contenders_on("nic") == tuple(BY_NAME)
    assert it.measures_on("nic") == list(MEASURES)
    assert it.contenders_on("plain") == MAIN
    assert [measure.name for measure in it.measures_on("veth")] == ["tcp1", "tcp4"]
    assert it.everyone == list(BY_NAME)
    assert plan(wires=("plain",)).everyone == list(MAIN)


def test_what_is_chosen_is_for_every_wire() -> None:
    it = plan(contenders=("gso", "vxlan"), measures=("rtt", "tcp1"))
    for wire in it.wires:
        assert it.contenders_on(wire) == ("vxlan", "gso")
        assert [measure.name for measure in it.measures_on(wire)] == ["tcp1", "rtt"]


def test_everyone_takes_every_turn_once() -> None:
    for number in range(3):
        found = Counter(map(str, turns(plan(), number)))
        assert set(found.values()) == {1}
        few = len(MEASURES) - 2  # IPv6 takes part in two of them
        assert len(found) == len(BY_NAME) * len(MEASURES) - few + len(MAIN) * 2
        assert found["nic tcp1 gso"] == found["plain tcp4 vxlan"] == 1
        assert found["nic tcp4 uservxlan6"] == found["plain tcp1 uservxlan6"] == 1
        assert found["nic rtt uservxlan"] == 1
        assert found["nic rtt uservxlan6"] == 0


def test_a_measure_without_anybody() -> None:
    it = plan(contenders=("uservxlan6",), measures=("rtt",))
    assert list(turns(it, 0)) == []


def test_who_begins_shifts_with_measure_and_round() -> None:
    four = MAIN[:4]
    it = plan(wires=("nic",), contenders=four, measures=("tcp1", "tcp4", "rtt"))
    firsts = [
        [turn.contender for turn in turns(it, number)][:: len(four)]
        for number in range(3)
    ]
    assert firsts == [
        ["none", "vxlan", "flanneld"],
        ["vxlan", "flanneld", four[3]],
        ["flanneld", four[3], "none"],
    ]


class Pretended:
    """In place of contenders.stand and of the measures."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.up: set[str] = set()
        self.tried: list[str] = []
        self.refused: set[str] = set()
        self.dead: set[str] = set()

    @contextmanager
    def stand(
        self, contender: Contender, wire: str, place: Path, flanneld: Path
    ) -> Iterator[object]:
        name = contender.name
        place.mkdir()
        self.tried.append(name)
        if name in self.refused:
            raise RigError("not on this machine")
        self.up.add(name)
        rig = SimpleNamespace(wire=wire)
        rig.set_wire = partial(self._set_wire, rig)
        yield SimpleNamespace(
            contender=contender, rig=rig, check=lambda: self._check(name)
        )
        self.up.remove(name)

    def _set_wire(self, rig: SimpleNamespace, wire: str) -> None:
        assert rig.wire != wire
        rig.wire = wire
        self.log.append(f"wire {wire}")

    def _check(self, name: str) -> None:
        if name in self.dead:
            raise RigError(f"{name} has died")

    def measure(self, tools: Tools, stand: Any) -> dict[str, float]:
        self.log.append(stand.contender.name)
        return {"tcp1": 5.0 + len(self.log)}


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    it = Pretended()
    measure = Measure("tcp1", "", it.measure, lambda seconds: seconds)
    monkeypatch.setattr(series, "stand", it.stand)
    monkeypatch.setattr(series, "MEASURES", (measure,))
    monkeypatch.setattr(series, "MICROS", ())
    return it


def run(it: Plan, stream: io.StringIO | None = None) -> Results:
    results = Results("a", "", {}, {})
    tools = cast(Tools, None)
    series.run(it, tools, results, Screen(stream or io.StringIO()))
    return results


def test_a_series(pretended: Pretended) -> None:
    results = run(plan(contenders=("none", "vxlan"), wires=("veth", "nic")))
    assert pretended.log == [
        *("none", "vxlan", "wire nic", "vxlan", "wire nic", "none"),
        *("vxlan", "none", "wire nic", "none", "wire nic", "vxlan"),
    ]
    assert pretended.up == set()
    figure = results.figure("nic", "vxlan", "tcp1")
    assert figure is not None
    assert figure.values == (5.0 + 4, 5.0 + 12)
    assert results.notes == []


def test_who_cannot_be_set_up_is_left_out(pretended: Pretended) -> None:
    pretended.refused = {"flanneld"}
    results = run(plan(contenders=("none", "flanneld"), wires=("veth",)))
    assert results.contenders("veth") == ["none"]
    assert results.notes == ["flanneld is left out: not on this machine"]
    assert pretended.tried == ["none", "flanneld", "none"]


def test_a_measure_that_fails_is_noted_and_the_rest_goes_on(
    pretended: Pretended,
) -> None:
    pretended.dead = {"none"}
    results = run(plan(contenders=("none", "vxlan"), wires=("veth",)))
    assert results.contenders("veth") == ["vxlan"]
    assert results.notes == [
        "round 1, veth tcp1 none: none has died",
        "round 2, veth tcp1 none: none has died",
    ]


def test_what_needs_no_rig_is_measured_in_each_round(
    pretended: Pretended, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([{"16 routes": 5.0}, {"16 routes": 6.0}])
    places = []

    def look(place: Path) -> dict[str, float]:
        assert place.is_dir()
        places.append(place)
        return next(values)

    micro = Micro("routes", "", "lookup", look, 0.3)
    monkeypatch.setattr(series, "MICROS", (micro,))
    results = run(plan(contenders=("none",), wires=("veth",)))
    figure = results.figure(NO_WIRE, "16 routes", "lookup")
    assert figure is not None
    assert figure.values == (5.0, 6.0)
    assert len(set(places)) == 2
    assert plan(measures=("tcp1",)).micros == []
    assert plan(measures=("routes",)).micros == [micro]


def test_what_needs_no_rig_may_fail(
    pretended: Pretended, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> dict[str, float]:
        raise RigError("no rig at all")

    monkeypatch.setattr(series, "MICROS", (Micro("join", "", "join", fail, 1.0),))
    results = run(plan(contenders=("none",), wires=("veth",), rounds=1))
    assert results.notes == ["round 1, join: no rig at all"]
    assert results.contenders("veth") == ["none"]


def test_progress_in_a_file_is_a_line_a_round(pretended: Pretended) -> None:
    stream = io.StringIO()
    run(plan(contenders=("none",), wires=("veth",)), stream)
    first, second = stream.getvalue().splitlines()
    assert first == "round 1 of 2, 0:05 left"  # 2 x (1.5 s to set up + 1 s)
    assert second.startswith("round 2 of 2, ")


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    terminal = Terminal()
    it = plan(rounds=10, contenders=("none",), wires=("veth",), measures=("rtt",))
    progress = Progress(it, Screen(terminal))  # 10 x (1.5 s to set up + 1 s)
    progress.tell(0, "setting up none", 1.5)
    clock[0] += 3.0  # twice as slow as planned
    progress.tell(0, "veth rtt none", 1.0)
    progress.end()
    assert terminal.getvalue().split("\r\x1b[K") == [
        "",
        "round 1 of 10, 0:25 left: setting up none",
        "round 1 of 10, 0:47 left: veth rtt none",
        "",
    ]
