"""The tables of the report, as HTML. A table that is too wide scrolls by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flannelette.benchmarks.labdocument import Crossing, Document, Rung
from flannelette.benchmarks.reporthtml import Html, join, tag
from flannelette.benchmarks.reportjourney import (
    GAP,
    PLACES_ABOUT,
    STAGE_AT,
    nanoseconds,
    number,
    time,
    together,
)
from flannelette.benchmarks.results import METRICS, Figure, Results

Cell = Html | str


def crossings(rung: Rung) -> Html:
    """What one rung's journey costs at each place, and the acknowledgements' apart."""
    if rung.counts is None:
        return tag("p", "Nothing was counted on this rung.", class_="gap")
    head = ("", "crossing", "bytes copied", "calls", "packets a call", "time")
    there = [
        _crossing(rung, order, crossing)
        for order, crossing in enumerate(rung.counts.there, 1)
    ]
    parts = [table("Per packet, from the first app to the second", head, there)]
    if rung.counts.back:
        head = ("acknowledgements", "packets", "bytes copied", "calls", "packets a call")
        back = [_acknowledgement(crossing) for crossing in rung.counts.back]
        title = "The acknowledgements, by the same places back"
        parts.append(folded(title, table("Per acknowledgement", head, back)))
    return join(*parts)


def _crossing(rung: Rung, order: int, crossing: Crossing) -> list[Cell]:
    about = PLACES_ABOUT[crossing.place]
    theory = crossing.theory
    spent = (
        nanoseconds(rung, *STAGE_AT[crossing.place])
        if crossing.place in STAGE_AT
        else None
    )
    return [
        tag("span", str(order), class_="dot", data_place=crossing.place),
        join(about.title, tag("small", about.happens)),
        _beside(crossing.per_packet(crossing.bytes), theory and theory.bytes),
        _beside(crossing.per_packet(crossing.calls), theory and theory.calls),
        number(together(crossing)),
        time(spent),
    ]


def _beside(measured: float | None, theory: float | None) -> Html:
    """Measured, and under it what theory says."""
    return join(
        number(measured),
        tag("small", "in theory ", tag("i", number(theory)))
        if theory is not None
        else None,
    )


def _acknowledgement(crossing: Crossing) -> list[Cell]:
    return [
        PLACES_ABOUT[crossing.place].title,
        f"{crossing.packets:,}",
        number(crossing.per_packet(crossing.bytes)),
        number(crossing.per_packet(crossing.calls)),
        number(together(crossing)),
    ]


def medians(document: Document, ladder: Results) -> Html:
    """A row for each metric, a column for each rung."""
    names = [rung.name for rung in document.rungs]
    rows = []
    for metric in METRICS:
        figures = [ladder.figure(document.wire, name, metric.key) for name in names]
        if any(figures):
            title = metric.title if metric.title != "p99" else f"{metric.key}"
            head = join(title.replace("_", " "), tag("small", metric.unit))
            rows.append([head, *map(_median, figures)])
    return table("Medians, by rung", ("", *names), rows)


def _median(figure: Figure | None) -> Html | str:
    if figure is None:
        return GAP
    spread = tag("small", f"±\N{NO-BREAK SPACE}{figure.spread:.0%}")
    return join(number(figure.median), spread if len(figure.values) > 1 else None)


def stages(document: Document) -> Html | None:
    """Nanoseconds per packet of all four directions; None if none was timed."""
    timed = [(rung, part) for rung in document.rungs for part in rung.stages or ()]
    names = list(dict.fromkeys(name for _, part in timed for name in part.nanoseconds))
    if not timed:
        return None
    rows = [
        [
            f"{rung.name}, host {part.host} {part.direction}",
            f"{part.packets:,}",
            *(number(part.per_packet().get(name)) for name in names),
        ]
        for rung, part in timed
    ]
    title = "Stages, nanoseconds for a packet"
    return folded(title, table(title, ("", "packets timed", *names), rows))


def checks(document: Document) -> Html | None:
    """What was counted twice; None if nothing was."""
    rows: list[list[Cell]] = [
        [
            join(check.what, tag("small", rung.name)),
            f"{check.counted:,}",
            f"{check.traced:,}",
            _difference(check.counted, check.traced),
            check.source,
        ]
        for rung in document.rungs
        for check in rung.checks
    ]
    if not rows:
        return None
    head = ("", "by the daemons", "by the kernel", "difference", "source")
    return folded("Counted twice", table("The daemons' counts and the kernel's", head, rows))


def _difference(counted: int, traced: int) -> str:
    return f"{(counted - traced) / traced:+.2%}" if traced else GAP


def rounds(ladder: Results) -> Html:
    """Every value of every round."""
    units = {metric.key: metric.unit for metric in METRICS}
    rows = [
        [
            figure.place.contender,
            figure.place.metric,
            units[figure.place.metric],
            figure.place.wire,
            number(figure.median),
            " · ".join(number(value) for value in figure.values),
        ]
        for figure in ladder
    ]
    head = ("rung", "metric", "unit", "wire", "median", "rounds")
    return folded("Every round", table("Every value of every round", head, rows))


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Html:
    """The first column of it says what a row is about."""
    lines = (
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest))
        for first, *rest in rows
    )
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *(tag("th", text, scope="col") for text in head))),
            tag("tbody", *lines),
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )


def folded(title: str, *children: Html) -> Html:
    """What opens when asked for."""
    return tag("details", tag("summary", title), *children)
