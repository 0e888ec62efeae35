"""The report as text: nothing of it comes from elsewhere, nothing in it is trusted,
and what is not there is seen to be not there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import example, given, strategies as st

from flannelette.benchmarks import report
from flannelette.benchmarks.labdocument import Document
from flannelette.benchmarks.reporthtml import data, tag
from flannelette.benchmarks.reportjourney import number
from flannelette.benchmarks.reporttables import crossings
from flannelette.benchmarks.results import METRICS, Results
from flannelette.control.errors import HostError
from tests.helpers.evildocument import EVIL, evil_document
from tests.helpers.htmlpages import Page
from tests.helpers.labsample import (
    RUN,
    changed,
    document,
    ladder,
    rung,
    with_ladder,
    without_figures,
)

# ---- one file ------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_nothing_is_fetched_from_elsewhere() -> None:
    page = Page(report.render(document()))
    assert page.addresses
    assert not [a for a in page.addresses if not a.startswith(("#", "data:,"))]
    assert "@import" not in report.render(document())
    assert "link" in page.tags  # the icon alone, which is empty
    assert page.tags.count("link") == 1


def test_plotly_is_in_it_once() -> None:
    text = report.render(document())
    assert text.count("* plotly.js v") == 1
    assert len(text) < 6_000_000


def test_no_plotly_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(HostError, match="lab needs plotly"):
        report.render(document())


def test_the_policy_lets_nothing_in() -> None:
    text = report.render(document())
    assert "default-src 'none'; script-src 'unsafe-inline'" in text


# ---- nothing is trusted --------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_texts_stay_texts() -> None:
    good, bad = Page(report.render(document())), Page(report.render(evil_document()))
    assert bad.tags.count("script") == good.tags.count("script")
    assert "img" not in bad.tags
    assert not bad.handlers
    assert "one packet a call" in bad.text
    assert bad.text.count(EVIL) > 50
    pictures = json.loads(bad.scripts["pictures"])
    assert pictures[0]["name"] == "none" + EVIL
    charts = json.loads(bad.scripts["charts"])
    assert charts[0]["rungs"][0] == "none" + EVIL
    axis = charts[0]["figure"]["layout"]["yaxis"]
    assert not [name for name in axis["categoryarray"] if "<" in name]


@given(st.text())
@example("</script>")
@example("<!--<script>")
def test_data_never_ends_its_element(text: str) -> None:
    page = Page(data("it", [text, {text: 1}]) + "<p>after")
    assert page.tags == ["script", "p"]
    assert json.loads(page.scripts["it"]) == [text, {text: 1}]


def test_tags_escape() -> None:
    assert tag("p", "a<b", tag("b", "&"), None) == "<p>a&lt;b<b>&amp;</b></p>"
    assert tag("input", class_='"', data_x="1", checked=True, id=None) == (
        '<input class="&quot;" data-x="1" checked>'
    )


# ---- gaps ----------------------------------------------------------------------------


def broken() -> Iterator[tuple[str, Document]]:
    whole = document()
    yield "no rungs", msgspec.structs.replace(whole, rungs=())
    yield "no ladder", with_ladder(Results(RUN, "", {}, {}))
    yield "one rung", msgspec.structs.replace(whole, rungs=(rung(whole, "c"),))
    yield "kernel only", msgspec.structs.replace(whole, rungs=whole.rungs[:2])
    yield "another wire", msgspec.structs.replace(whole, wire="plain")
    yield (
        "no machine",
        msgspec.structs.replace(
            whole, machine={}, offloads=(), notes=(), timers=None, command=""
        ),
    )
    for name in ("none", "c"):
        yield f"{name} not counted", changed(whole, name, counts=None, stages=None)
        counts = rung(whole, name).counts
        assert counts is not None
        nothing = msgspec.structs.replace(
            counts, payload=0, packets=0, there=(), back=(), daemons=()
        )
        yield f"{name} empty", changed(whole, name, counts=nothing, stages=())
        unknown = tuple(
            msgspec.structs.replace(c, bytes=None, calls=None, units=None, theory=None)
            for c in counts.there
        )
        partly = msgspec.structs.replace(counts, there=unknown)
        yield f"{name} half counted", changed(whole, name, counts=partly)
        still = tuple(
            msgspec.structs.replace(c, packets=0, bytes=0, calls=0)
            for c in counts.there
        )
        idle = msgspec.structs.replace(counts, there=still)
        yield f"{name} idle", changed(whole, name, counts=idle)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "missing", [pytest.param(missing, id=why) for why, missing in broken()]
)
def test_gaps_do_not_break_the_page(missing: Document) -> None:
    page = Page(report.render(missing))
    assert page.sections == [
        "journey",
        "ladder",
        "time",
        "machine",
        "numbers",
        "notes",
    ]
    words = set(re.findall(r"\w+", page.text))
    assert not words & {"None", "nan", "inf"}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("metric", [metric.key for metric in METRICS])
def test_any_metric_may_be_missing(metric: str) -> None:
    report.render(with_ladder(without_figures({metric})))


def test_gaps_are_said() -> None:
    uncounted = changed(document(), "c", counts=None, stages=None)
    text = report.render(uncounted)
    assert "Nothing was counted on this rung." in text
    text = report.render(with_ladder(Results(RUN, "", {}, {})))
    assert "Nothing was measured." in text


# ---- the numbers ---------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_every_number_is_in_a_table() -> None:
    text = Page(report.render(document())).text
    for figure in ladder():
        values = " · ".join(number(value) for value in figure.values)
        assert values in text, figure.place


def test_the_packets_that_share_a_frame_are_not_those_of_a_call() -> None:
    whole = document()
    counts = rung(whole, "tun").counts
    assert counts is not None
    send, read, *rest = counts.there
    there = (send, msgspec.structs.replace(read, units=1_600), *rest)
    shared = msgspec.structs.replace(counts, there=there)
    table = crossings(rung(changed(whole, "tun", counts=shared), "tun"))
    assert "<td>40.4</td><td>125</td>" in table
