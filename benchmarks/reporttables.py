"""The tables of the report, as HTML. A table that is too wide scrolls by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flannelette.benchmarks.labdocument import Crossing, Document, Rung
from flannelette.benchmarks.reporthtml import Html, join, tag
from flannelette.benchmarks.reportjourney import (
    GAP,
    PLACES_ABOUT,
    STAGE_AT,
    UNITS,
    in_unit,
    nanoseconds,
    number,
    time,
    together,
)
from flannelette.benchmarks.results import METRICS, Figure, Results

Cell = Html | str
_THERE = (
    "",
    "crossing",
    "bytes copied",
    "calls",
    "packets a call",
    "packets a frame or message",
    "time",
)
_DAEMONS = ("", "wake-ups", "preemptions", "pumps begun", "processor time")
_BACK = ("crossing", "packets", "bytes copied", "calls", "packets a call")


def crossings(rung: Rung) -> Html:
    """What one rung's journey costs at each place, and the acknowledgements' apart."""
    if rung.counts is None:
        return tag("p", "Nothing was counted on this rung.", class_="gap")
    there = [
        _crossing(rung, order, crossing)
        for order, crossing in enumerate(rung.counts.there, 1)
    ]
    parts = [table("Per packet, from the first app to the second", _THERE, there)]
    if rung.counts.back:
        back = [_acknowledgement(crossing) for crossing in rung.counts.back]
        title = "The acknowledgements, by the same places back"
        parts.append(folded(title, table("Per acknowledgement", _BACK, back)))
    if rung.counts.daemons:
        daemons = [
            [
                f"host {sleeper.host}",
                f"{sleeper.wake_ups:,}",
                f"{sleeper.preemptions:,}",
                GAP if sleeper.pumps is None else f"{sleeper.pumps:,}",
                number(sleeper.seconds, "s"),
            ]
            for sleeper in rung.counts.daemons
        ]
        made = table(f"In {number(rung.counts.seconds, 's')}", _DAEMONS, daemons)
        parts.append(folded("The daemons", made))
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
        _beside(crossing.per_packet(crossing.bytes), theory.bytes if theory else None),
        _beside(crossing.per_packet(crossing.calls), theory.calls if theory else None),
        number(together(crossing)),
        number(in_unit(crossing)),
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
    rows, about = [], ""
    for metric in METRICS:
        figures = [ladder.figure(document.wire, name, metric.key) for name in names]
        if any(figures):
            title = f"{about} p99" if metric.title == "p99" else metric.title
            head = join(title, tag("small", UNITS[metric.key]))
            rows.append([head, *map(_median, figures)])
        about = metric.title
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
    made = table("The daemons' counts and the kernel's", head, rows)
    return folded("Counted twice", made)


def _difference(counted: int, traced: int) -> str:
    return f"{(counted - traced) / traced:+.2%}" if traced else GAP


def rounds(ladder: Results) -> Html:
    """Every value of every round."""
    rows = [
        [
            figure.place.contender,
            figure.place.metric,
            UNITS[figure.place.metric],
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
