"""The dashboard and the alerts: they ask for what /metrics has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from flannelette.control.health.exporter import Exporter
from flannelette.control.health.figures import Figures
from flannelette.control.health.lag import Lag
from flannelette.control.health.readiness import Ready
from flannelette.dataplane.forwarder import Drop, PeerCounters
from tests.helpers.ns import ROOT
from tests.helpers.statusdocuments import direction, document

DASHBOARD = ROOT / "docs/grafana/flannelette.json"
ALERTS = ROOT / "docs/prometheus/alerts.yml"
PROMETHEUS = {"job", "instance", "__name__"}
"""Labels that a scrape gives to all."""
MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"')


@pytest.fixture(scope="module")
def series() -> dict[str, dict[str, set[str]]]:
    """The values of each label, by name of a metric."""
    summary: Any = document(
        counters={
            one: direction(1, **{drop.label: 0 for drop in Drop})
            for one in ("tx", "rx")
        }
    )
    figures = Figures(summary, Ready(), Lag(), peers=[PeerCounters(1, last_seen=1)])
    page, _ = Exporter(lambda: figures).page()
    parse: Callable[[str], Iterable[Metric]] = text_string_to_metric_families
    found: dict[str, dict[str, set[str]]] = {}
    for family in parse(page.decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def expressions(path: Path) -> list[str]:
    if path == ALERTS:
        return re.findall(r"^ +expr: (.+)$", path.read_text(), re.MULTILINE)
    panels = json.loads(path.read_text())["panels"]
    return [target["expr"] for it in panels for target in it.get("targets", ())]


@pytest.mark.parametrize(("path", "count"), [(DASHBOARD, 25), (ALERTS, 12)])
def test_every_metric_and_label_that_is_asked_for_exists(
    path: Path, count: int, series: dict[str, dict[str, set[str]]]
) -> None:
    asked = expressions(path)
    assert len(asked) >= count
    for expression in asked:
        metrics = re.findall(r"(?:flannelette|process)_\w+", expression)
        assert metrics or expression.startswith("up{")
        assert set(metrics) <= series.keys(), expression
        labels: dict[str, set[str]] = {}
        for name in metrics:
            for label, values in series[name].items():
                labels.setdefault(label, set()).update(values)
        for label, wanted in MATCHER.findall(expression):
            if label not in PROMETHEUS:
                assert set(wanted.split("|")) <= labels[label], expression
        for group in re.findall(r"(?:by|on|without) \(([\w, ]+)\)", expression):
            assert set(group.split(", ")) <= labels.keys() | PROMETHEUS, expression


def test_what_alerts_say_uses_labels_that_are_there(
    series: dict[str, dict[str, set[str]]],
) -> None:
    known = PROMETHEUS.union(*series.values())
    used = set(re.findall(r"\$labels\.(\w+)", ALERTS.read_text()))
    assert used >= {"instance", "cause", "peer"}
    assert used <= known


def test_every_alert_says_what_it_means() -> None:
    blocks = re.split(r"^ +- alert: ", ALERTS.read_text(), flags=re.MULTILINE)[1:]
    names = [block.split()[0] for block in blocks]
    assert len(set(names)) == len(names)
    for block in blocks:
        assert re.search(r"severity: (critical|warning)\n", block)
        assert re.search(r'summary: ".*"\n +description: ".*"\n', block)


def test_legends_name_labels_that_are_there(
    series: dict[str, dict[str, set[str]]],
) -> None:
    known = PROMETHEUS.union(*series.values())
    used = set(re.findall(r"\{\{(\w+)\}\}", DASHBOARD.read_text()))
    assert used <= known


def test_panels_stand_beside_and_below_each_other() -> None:
    """None covers another; each has a title, and the data source of the variable."""
    dashboard = json.loads(DASHBOARD.read_text())
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert names == {"datasource", "instance"}
    taken: set[tuple[int, int]] = set()
    ids = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        ids.add(panel["id"])
        assert panel["title"]
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
            assert "$instance" in target["expr"]
    assert len(ids) == len(dashboard["panels"])
