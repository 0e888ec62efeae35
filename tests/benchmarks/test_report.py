"""The report as text: nothing of it comes from elsewhere, nothing in it is trusted,
and what is not there is seen to be not there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings, strategies as st

from flannelette.benchmarks import (
    report,
    reportcharts,
    reportjourney,
    reportstages,
    results,
)
from flannelette.benchmarks.labdocument import Document, Rung
from flannelette.benchmarks.reporthtml import data, tag
from flannelette.benchmarks.reportjourney import GAP, number, picture, totals
from flannelette.benchmarks.reportsteps import changes
from flannelette.benchmarks.reporttables import crossings
from flannelette.benchmarks.results import METRICS, Place, Results
from flannelette.control.errors import HostError
from tests.helpers.labsample import RUN, WIRE, changed, document, ladder, rung

EVIL = "</script><script>window.owned = 1</script><img src=x onerror=owned()>&amp;\"'"
ADDRESSES = {"src", "href", "action", "data", "poster", "srcset", "xlink:href"}


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sections: list[str | None] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.scripts: dict[str | None, str] = {}
        self.texts: list[str] = []
        self._script: str | None = None
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        self._inside = name
        self._script = dict(attrs).get("id")
        if name == "section":
            self.sections.append(self._script)
        for key, value in attrs:
            if key in ADDRESSES:
                self.addresses.append(value or "")
            if key.startswith("on"):
                self.handlers.append(key)

    def handle_endtag(self, name: str) -> None:
        self._inside = ""

    def handle_data(self, text: str) -> None:
        if self._inside == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + text
        elif self._inside != "style":
            self.texts.append(text)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the megabytes of plotly.js, for the parser's sake."""
    monkeypatch.setattr(report, "_plotly", lambda: tag("script", "plotly"))


def without_figures(metrics: set[str]) -> Results:
    """The sample's ladder without those."""
    found = Results(RUN, "some day", {}, {})
    for figure in ladder():
        if figure.place.metric not in metrics:
            for value in figure.values:
                found.add(figure.place, value)
    return found


def with_ladder(found: Results) -> Document:
    return msgspec.structs.replace(document(), ladder=msgspec.Raw(results.dump(found)))


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


def evil(value: Any) -> Any:
    """Every text of a document of plain data made evil, names of fields apart."""
    if isinstance(value, str):
        return value + EVIL
    if isinstance(value, list):
        return [evil(each) for each in value]
    if isinstance(value, dict):
        return {key: evil(each) for key, each in value.items()}
    return value


def evil_document() -> Document:
    plain = msgspec.json.decode(msgspec.json.encode(document()))
    plain.pop("ladder")
    rungs = plain.pop("rungs")
    made = evil(plain)
    made["machine"] = {key + EVIL: text for key, text in made["machine"].items()}
    made["rungs"] = rungs
    for each in rungs:
        for key in ("name", "title", "switched", "gain", "flags"):
            each[key] = evil(each[key])
        for check in each["checks"]:
            check |= evil({"what": check["what"], "source": check["source"]})
    names = {
        old.name: new["name"] for old, new in zip(document().rungs, rungs, strict=True)
    }
    found = Results(RUN + EVIL, EVIL, {}, {"rounds" + EVIL: EVIL})
    for figure in ladder():
        place = Place(WIRE + EVIL, names[figure.place.contender], figure.place.metric)
        for value in figure.values:
            found.add(place, value)
    made["ladder"] = msgspec.json.decode(results.dump(found))
    return msgspec.json.decode(msgspec.json.encode(made), type=Document)


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


def test_totals_are_of_packets_and_acknowledgements() -> None:
    whole = document()
    copies, calls, wakes = totals(rung(whole, "tun"))
    counts = rung(whole, "tun").counts
    assert counts is not None
    crossed = sum(c.bytes or 0 for c in (*counts.there, *counts.back))
    assert copies.measured == pytest.approx(crossed / counts.payload)
    assert copies.theory == pytest.approx(6 * 1472 * counts.packets / counts.payload)
    daemons = (*counts.there[1:-1], *counts.back)
    made = sum(c.calls or 0 for c in daemons)
    assert calls.measured == pytest.approx(made / counts.packets)
    assert calls.theory == pytest.approx(2 / 42 + 2 / 43)
    assert wakes.measured == pytest.approx(5_000 / counts.packets)
    assert wakes.theory is None


def test_a_total_with_an_unknown_part_is_unknown() -> None:
    counts = rung(document(), "c").counts
    assert counts is not None
    first, *rest = counts.there
    uncounted = msgspec.structs.replace(first, bytes=None, theory=None)
    there = (uncounted, *rest)
    counts = msgspec.structs.replace(counts, there=there, daemons=())
    copies, calls, wakes = totals(rung(changed(document(), "c", counts=counts), "c"))
    assert (copies.measured, copies.theory, wakes.measured) == (None, None, None)
    assert calls.measured is not None


def test_no_daemon_makes_no_calls_and_never_wakes() -> None:
    _, calls, wakes = totals(rung(document(), "vxlan"))
    assert (calls.measured, wakes.measured) == (0, 0)


def drawn(name: str, shown: Document) -> dict[str, Any]:
    crossings: Any = picture(rung(shown, name), 1.0)["crossings"]
    return {crossing["place"]: crossing for crossing in crossings}


def test_the_picture_has_as_many_squares_as_packets_in_a_call() -> None:
    read = drawn("tun", document())["tun_read"]
    assert (read["packets"], read["counted"]) == (40, True)
    assert read["lines"] == ["1,482\xa0B copied", "40.4 packets a call", "62\xa0ns"]
    read = drawn("c", document())["tun_read"]
    assert (read["packets"], read["counted"]) == (1, True)
    assert read["lines"][1:] == ["1.04 calls a packet", "1.24\xa0µs"]
    assert drawn("tun", document())["app_send"]["packets"] == 64


def test_the_picture_labels_theory() -> None:
    counts = rung(document(), "c").counts
    assert counts is not None
    first, *rest = counts.there
    there = (msgspec.structs.replace(first, calls=None), *rest)
    shown = changed(
        document(), "c", counts=msgspec.structs.replace(counts, there=there)
    )
    send = drawn("c", shown)["app_send"]
    assert (send["packets"], send["counted"]) == (64, False)
    assert send["lines"][-2:] == ["92.0 packets a call", "(in theory)"]


def test_the_kernels_way_has_two_crossings() -> None:
    assert list(drawn("vxlan", document())) == ["app_send", "app_receive"]
    assert picture(rung(document(), "vxlan"), None)["device"] == "flannel.1"
    assert picture(rung(document(), "none"), None)["device"] is None
    assert picture(rung(document(), "none"), None)["processor"] == GAP


def test_processor_time_is_the_machines_per_packet() -> None:
    found = reportjourney.processor_time(rung(document(), "c"), ladder(), WIRE)
    assert found == pytest.approx(26 * 1420)
    uncounted = rung(changed(document(), "c", counts=None), "c")
    assert reportjourney.processor_time(uncounted, ladder(), WIRE) == found
    assert reportjourney.processor_time(uncounted, ladder(), "veth") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, GAP), (0, "0"), (0.25, "0.25"), (1234.5, "1,234"), (12.34, "12.3")],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(None, GAP), (3.14, "3.1\xa0ns"), (999.0, "999\xa0ns"), (1000.0, "1.00\xa0µs")],
)
def test_times_have_the_unit_that_suits(nanoseconds: float | None, text: str) -> None:
    assert reportjourney.time(nanoseconds) == text


# ---- steps ---------------------------------------------------------------------------


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


# ---- charts --------------------------------------------------------------------------


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


# ---- looks ---------------------------------------------------------------------------


def themes() -> Iterator[dict[str, str]]:
    css = report._read("page.css")
    pairs = re.findall(r"(--[\w-]+): light-dark\((#\w+), (#\w+)\)", css)
    assert len(pairs) > 10
    yield {name: light for name, light, _ in pairs}
    yield {name: dark for name, _, dark in pairs}


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", list(themes()), ids=("light", "dark"))
def test_texts_can_be_read(theme: dict[str, str]) -> None:
    """WCAG 2.2, 1.4.3: 4.5 for text; 1.4.11: 3 for what is drawn."""
    for ground in ("--paper", "--surface", "--wash", "--user", "--kernel"):
        for ink in ("--ink", "--soft"):
            assert contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
    for ground in ("--paper", "--surface", "--wash"):
        assert contrast(theme["--accent"], theme[ground]) >= 4.5, ground
    for ink in ("--good", "--bad", "--second"):
        assert contrast(theme[ink], theme["--surface"]) >= 4.5, ink
    for line in ("--user-line", "--kernel-line"):
        assert contrast(theme[line], theme["--surface"]) >= 3, line
