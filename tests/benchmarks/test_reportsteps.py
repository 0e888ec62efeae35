"""Steps from rung to rung in the report: what the rounds tell, and what they cannot."""

from __future__ import annotations

import pytest

from flannelette.benchmarks import report
from flannelette.benchmarks.labdocument import Rung
from flannelette.benchmarks.reportsteps import changes
from flannelette.benchmarks.results import Place, Results
from tests.helpers.htmlpages import Page
from tests.helpers.labsample import (
    RUN,
    WIRE,
    document,
    rung,
    with_ladder,
    without_figures,
)


def two_rungs(*values: tuple[float, ...]) -> tuple[Results, Rung, Rung]:
    found = Results(RUN, "", {}, {})
    for name, several in zip(("c", "tun"), values, strict=True):
        for value in several:
            found.add(Place(WIRE, name, "tcp1"), value)
    return found, rung(document(), "c"), rung(document(), "tun")


def test_a_change_is_clear_when_the_rounds_lie_apart() -> None:
    found, before, after = two_rungs((1.0, 1.1, 1.2), (2.2, 2.4, 1.3))
    (change,) = changes(found, WIRE, before, after)
    assert change.verdict == "better"
    assert change.factor == pytest.approx(2.0)
    found, before, after = two_rungs((1.0, 1.1, 1.2), (2.2, 2.4, 1.2))
    (change,) = changes(found, WIRE, before, after)
    assert change.verdict == "none"
    found, before, after = two_rungs((2.0, 2.0), (1.0, 1.0))
    (change,) = changes(found, WIRE, before, after)
    assert change.verdict == "worse"


def test_one_round_tells_nothing_for_sure() -> None:
    for new, verdict in ((2.0, "open"), (1.004, "none")):
        found, before, after = two_rungs((1.0,), (new,))
        (change,) = changes(found, WIRE, before, after)
        assert change.verdict == verdict


@pytest.mark.usefixtures("short")
def test_what_the_rounds_cannot_tell_is_said_so() -> None:
    found = without_figures({"tcp1"})
    for name in ("c", "batched"):
        for value in (1.0, 1.5):
            found.add(Place(WIRE, name, "tcp1"), value)
    page = Page(report.render(with_ladder(found)))
    assert "no clear change: TCP, one flow" in page.text


def test_the_head_concludes_only_what_was_measured() -> None:
    conclusion = "About as many bytes are copied as before"
    assert conclusion in report.render(document())
    for metric in ("copies", "tcp1", "syscalls"):
        found = without_figures({metric})
        assert conclusion not in report.render(with_ladder(found))
        for name, value in (("python", 1.0), ("threads", 1.2)):
            found.add(Place(WIRE, name, metric), value)
        assert conclusion not in report.render(with_ladder(found))
