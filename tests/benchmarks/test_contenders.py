"""The contenders: their flags, and stands that cannot stand."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from flannelette.benchmarks import contenders
from flannelette.benchmarks.contenders import BY_NAME, MAIN, OURS, VXLAN, VXLAN6, stand
from flannelette.benchmarks.netns import RigError
from flannelette.control import config
from tests.helpers.ns import needs_namespaces

NOWHERE = Path("/nonexistent/flanneld")


@pytest.mark.parametrize("name", [n for n, c in BY_NAME.items() if c.flags is not None])
def test_the_flags_of_ours_are_flags(name: str) -> None:
    flags = BY_NAME[name].flags
    assert flags is not None
    config.parse(flags, {})


def test_ours_is_the_default() -> None:
    flags = BY_NAME[OURS].flags
    assert flags is not None
    assert config.parse(flags, {}) == config.parse([], {})
    assert OURS in MAIN
    for name in (VXLAN, VXLAN6):
        flags = BY_NAME[name].flags
        assert flags is not None
        assert config.parse(flags, {}) == config.parse([], {})


def test_a_rung_differs_by_one_thing_from_the_one_below() -> None:
    ladder = [it for it in BY_NAME.values() if it.flags and it.name != "python"]
    assert len(ladder) == 6
    rungs = [config.parse(it.flags or (), {}) for it in ladder]
    fields = ("datapath", "batch", "offload", "driver")
    for below, rung in itertools.pairwise(rungs):
        changes = [f for f in fields if getattr(below, f) != getattr(rung, f)]
        assert len(changes) == 1


@needs_namespaces
def test_flanneld_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(RigError, match=f"there is no program {NOWHERE}"),
        stand(BY_NAME["flanneld"], "nic", tmp_path / "s", NOWHERE),
    ):
        pass


@needs_namespaces
def test_a_program_that_is_not_ready_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contenders, "START_SECONDS", 0.0)
    monkeypatch.setattr(contenders, "IPERF_PORT", 70_000)
    with (
        pytest.raises(RigError, match="the iperf3 server"),
        stand(BY_NAME["none"], "nic", tmp_path / "s", NOWHERE),
    ):
        pass
