"""The report's charts: Plotly takes them, and each says what it lacks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.benchmarks import reportcharts, reportstages
from flannelette.benchmarks.results import Place, Results
from tests.helpers.labsample import RUN, WIRE, document, ladder, rung


def plain(value: Any) -> Any:
    """With a colour for each name of one."""
    if isinstance(value, str) and value.startswith("--"):
        return "#123456"
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


def all_charts() -> list[dict[str, Any]]:
    whole = document()
    panels = reportcharts.panels(ladder(), WIRE, whole.rungs)
    return panels + reportstages.charts(whole.rungs)


@pytest.mark.parametrize("chart", all_charts(), ids=lambda chart: str(chart["id"]))
def test_plotly_takes_the_charts(chart: dict[str, Any]) -> None:
    from plotly import graph_objects

    graph_objects.Figure(plain(chart["figure"]))


def test_far_apart_values_have_a_log_scale() -> None:
    scales = {
        chart["id"]: chart["figure"]["layout"]["xaxis"]["type"]
        for chart in reportcharts.panels(ladder(), WIRE, document().rungs)
    }
    assert scales["chart-tcp"] == scales["chart-calls"] == "log"
    assert scales["chart-rtt"] == scales["chart-copies"] == "linear"


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=5))
@settings(max_examples=50)
def test_any_figure_has_a_chart(values: list[float]) -> None:
    found = Results(RUN, "", {}, {})
    for value in values:
        found.add(Place(WIRE, "c", "tcp1"), value)
    (chart,) = reportcharts.panels(found, WIRE, document().rungs)
    json.dumps(chart, allow_nan=False)


# ---- gaps ----------------------------------------------------------------------------


def test_a_rung_without_stages_is_a_gap_in_the_bars() -> None:
    (sender, receiver) = reportstages.charts(document().rungs)
    for chart in (sender, receiver):
        layout = chart["figure"]["layout"]
        assert [(a["y"], a["text"]) for a in layout["annotations"]] == [
            ("python", "not timed")
        ]
        assert chart["rungs"][:2] == ["python", "c"]
        assert all("python" not in trace["y"] for trace in chart["figure"]["data"])


def test_no_stages_are_no_chart() -> None:
    whole = document()
    assert reportstages.charts([rung(whole, "python"), rung(whole, "none")]) == []


def test_charts_say_who_has_no_daemon_and_who_was_not_measured() -> None:
    found = Results(RUN, "", {}, {})
    found.add(Place(WIRE, "c", "syscalls"), 4.0)
    (chart,) = reportcharts.panels(found, WIRE, document().rungs[:4])
    said = {a["y"]: a["text"] for a in chart["figure"]["layout"]["annotations"]}
    assert said == {
        "none": "no daemon",
        "vxlan": "no daemon",
        "python": "not measured",
    }
