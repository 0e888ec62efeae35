"""Charts of the report, as plotly's figures: plain data for page/charts.js.

A colour here is the name of one of page.css's, such as "--accent": the page has two
themes, and charts.js puts in what is current. What is to be said in the other theme's
colours only, or on a log scale, is decided there too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flannelette.benchmarks.labdocument import Rung, StageName
from flannelette.benchmarks.reportjourney import UNITS, number, time
from flannelette.benchmarks.results import Figure, Results

LOG_FROM = 30.0
"""How many times the least value the greatest must be for a log scale."""
Json = dict[str, Any]


class Panel(NamedTuple):
    """One chart of the ladder: metrics of one unit."""

    key: str
    title: str
    good: str
    """Which way is better."""
    series: Mapping[str, str]
    """Metric → its name in the legend."""


PANELS = (
    Panel("tcp", "TCP throughput", "more", {"tcp1": "one flow", "tcp4": "four flows"}),
    Panel("small", "Packets a second, UDP of 64 B", "more", {"udp64": "without loss"}),
    Panel("bulk", "UDP of 1400 B", "more", {"udp1400": "without loss"}),
    Panel(
        "rtt",
        "Round-trip time, idle",
        "less",
        {"rtt": "median (p50)", "rtt_p99": "p99"},
    ),
    Panel(
        "load",
        "Round-trip time beside a TCP flow",
        "less",
        {"rtt_load": "median (p50)", "rtt_load_p99": "p99"},
    ),
    Panel(
        "cpu",
        "Processor time for a gigabyte",
        "less",
        {"daemons_gb": "the daemons", "machine_gb": "the whole machine"},
    ),
    Panel("copies", "Bytes copied for a byte delivered", "less", {"copies": "copied"}),
    Panel("calls", "System calls for a packet", "less", {"syscalls": "daemons"}),
    Panel("switches", "Context switches for a packet", "less", {"switches": "daemons"}),
)
_LOOKS = (("--accent", "circle"), ("--second", "diamond-open"))
_STAGE_COLOURS: Mapping[StageName, str] = {
    "read": "--into",
    "receive": "--into",
    "lookup": "--look",
    "check": "--look",
    "split": "--shape",
    "merge": "--shape",
    "checksum": "--sum",
    "send": "--out",
    "write": "--out",
}


def panels(ladder: Results, wire: str, rungs: Sequence[Rung]) -> list[Json]:
    """Those of PANELS that were measured, with what to say instead of seeing."""
    names = [rung.name for rung in rungs]
    found = []
    for panel in PANELS:
        figures = {
            key: [f for n in names if (f := ladder.figure(wire, n, key))]
            for key in panel.series
        }
        if any(figures.values()):
            found.append(_panel(panel, figures, rungs))
    return found


def _panel(
    panel: Panel, figures: Mapping[str, Sequence[Figure]], rungs: Sequence[Rung]
) -> Json:
    unit = UNITS[next(iter(panel.series))]
    traces: list[Json] = []
    for (key, name), look in zip(panel.series.items(), _LOOKS, strict=False):
        traces += _dots(figures[key], name, look, labelled=not traces)
    every = [figure for several in figures.values() for figure in several]
    return {
        "id": f"chart-{panel.key}",
        "title": panel.title,
        "unit": f"{unit}, {panel.good} is better",
        "said": _said(panel, figures, unit),
        "figure": {
            "data": traces,
            "layout": {
                "xaxis": {"type": "log" if _wide(every) else "linear"},
                "yaxis": _rows([rung.name for rung in rungs]),
                "annotations": [_gap(*gap) for gap in _gaps(every, rungs)],
                "scattermode": "group",
                "scattergap": 0.4,
                "showlegend": len(panel.series) > 1,
            },
        },
    }


def _dots(
    figures: Sequence[Figure], name: str, look: tuple[str, str], labelled: bool
) -> list[Json]:
    """The rounds faintly, and the median with a line over their range."""
    colour, symbol = look
    medians = [figure.median for figure in figures]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [value for figure in figures for value in figure.values],
            "y": [f.place.contender for f in figures for _ in f.values],
            "marker": {"color": colour, "size": 5, "opacity": 0.45},
            "orientation": "h",
            "offsetgroup": name,
            "hoverinfo": "skip",
            "showlegend": False,
        },
        {
            "type": "scatter",
            "mode": "markers+text" if labelled else "markers",
            "name": name,
            "orientation": "h",
            "offsetgroup": name,
            "x": medians,
            "y": [figure.place.contender for figure in figures],
            "text": [number(median) for median in medians],
            "textposition": "top center",
            "textfont": {"color": "--ink"},
            "cliponaxis": False,
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [max(f.values) - f.median for f in figures],
                "arrayminus": [f.median - min(f.values) for f in figures],
                "color": colour,
                "thickness": 2,
                "width": 0,
            },
            "marker": {"color": colour, "size": 11, "symbol": symbol},
            "hovertemplate": "%{y}: %{text}<extra>" + name + "</extra>",
        },
    ]


def stages(rungs: Sequence[Rung], host: int, direction: str, title: str) -> Json | None:
    """A stacked bar for each rung with a daemon; None if none was timed."""
    daemons = [rung for rung in rungs if rung.flags is not None]
    spent: dict[str, dict[StageName, float]] = {}
    for rung in daemons:
        for timed in rung.stages or ():
            if (timed.host, timed.direction) == (host, direction) and timed.packets:
                spent[rung.name] = timed.per_packet()
    if not spent:
        return None
    names = [
        name
        for name in _STAGE_COLOURS
        if any(stages.get(name) for stages in spent.values())
    ]
    names = _as_happens(names, direction)
    gaps = [rung.name for rung in daemons if rung.name not in spent]
    return {
        "id": f"stages-{direction}",
        "title": title,
        "unit": "nanoseconds for a packet, less is better",
        "said": _stages_said(title, spent),
        "figure": {
            "data": [*(_bar(name, spent) for name in names), _sums(spent)],
            "layout": {
                "barmode": "stack",
                "xaxis": {"type": "linear"},
                "yaxis": _rows([rung.name for rung in daemons]),
                "legend": {"traceorder": "normal"},
                "annotations": [_gap(name, "not timed") for name in gaps],
                "showlegend": True,
            },
        },
    }


def _as_happens(names: Iterable[StageName], direction: str) -> list[StageName]:
    order = {
        "tx": ("read", "lookup", "split", "send", "write"),
        "rx": ("receive", "check", "checksum", "merge", "write"),
    }[direction]
    return sorted(names, key=lambda n: order.index(n) if n in order else len(order))


def _bar(stage: StageName, spent: Mapping[str, Mapping[StageName, float]]) -> Json:
    times = {name: stages.get(stage, 0.0) for name, stages in spent.items()}
    return {
        "type": "bar",
        "orientation": "h",
        "name": stage,
        "x": list(times.values()),
        "y": list(times),
        "customdata": [number(ns, "ns") for ns in times.values()],
        "marker": {"color": _STAGE_COLOURS[stage], "line": {"width": 0}},
        "hovertemplate": "%{y}: %{customdata}<extra>" + stage + "</extra>",
    }


def _sums(spent: Mapping[str, Mapping[StageName, float]]) -> Json:
    """Beside the bars; charts.js leaves it out where bars are shares."""
    sums = [sum(stages.values()) for stages in spent.values()]
    return {
        "type": "scatter",
        "mode": "text",
        "x": sums,
        "y": list(spent),
        "text": [f" {time(ns)}" for ns in sums],
        "textposition": "middle right",
        "textfont": {"color": "--ink"},
        "cliponaxis": False,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _gaps(
    figures: Iterable[Figure], rungs: Sequence[Rung]
) -> Iterable[tuple[str, str]]:
    there = {figure.place.contender for figure in figures}
    for rung in rungs:
        if rung.name not in there:
            yield rung.name, "no daemon" if rung.flags is None else "not measured"


def _gap(rung: str, why: str) -> Json:
    return {
        "xref": "paper",
        "x": 0,
        "y": rung,
        "text": why,
        "showarrow": False,
        "xanchor": "left",
        "xshift": 6,
        "bgcolor": "--surface",
        "font": {"color": "--soft"},
    }


def _rows(names: list[str]) -> Json:
    """The ladder's bottom is the chart's top."""
    return {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": names,
        "range": [len(names) - 0.4, -0.6],
    }


def _wide(figures: Iterable[Figure]) -> bool:
    values = [value for figure in figures for value in figure.values]
    return min(values) > 0 and max(values) / min(values) >= LOG_FROM


def _said(panel: Panel, figures: Mapping[str, Sequence[Figure]], unit: str) -> str:
    series = (
        f"{panel.series[key]}: "
        + ", ".join(f"{f.place.contender} {number(f.median)}" for f in several)
        for key, several in figures.items()
        if several
    )
    return f"{panel.title}, {unit}. " + "; ".join(series) + "."


def _stages_said(title: str, spent: Mapping[str, Mapping[StageName, float]]) -> str:
    each = (
        f"{name}: " + ", ".join(f"{s} {number(ns)}" for s, ns in stages.items() if ns)
        for name, stages in spent.items()
    )
    return f"{title}, nanoseconds for a packet. " + "; ".join(each) + "."
