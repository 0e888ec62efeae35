"""Charts of the report, as plotly's figures: plain data for page/charts.js.

A colour here is the name of one of page.css's, such as "--accent": the page has two
themes, and charts.js puts in what is current. Texts are HTML to plotly, so a rung's
name goes through label().
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flannelette.benchmarks.labdocument import Rung
from flannelette.benchmarks.reportjourney import UNITS, number
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
    Panel("small", "Packets a second, UDP of 64 B", "more", {"udp64": "loss-free"}),
    Panel("bulk", "UDP of 1400 B", "more", {"udp1400": "loss-free"}),
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
    Panel(
        "copies",
        "Bytes copied for a byte delivered",
        "less",
        {"copies": "all programs"},
    ),
    Panel("calls", "System calls for a packet", "less", {"syscalls": "daemons"}),
    Panel("switches", "Context switches for a packet", "less", {"switches": "daemons"}),
)
_LOOKS = (("--accent", "circle"), ("--second", "diamond-open"))


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
    names = [rung.name for rung in rungs]
    traces: list[Json] = []
    for (key, name), look in zip(panel.series.items(), _LOOKS, strict=False):
        traces += _dots(figures[key], name, look, labelled=not traces)
    every = [figure for several in figures.values() for figure in several]
    return {
        "id": f"chart-{panel.key}",
        "title": panel.title,
        "unit": f"{unit}{_which(panel, figures)}, {panel.good} is better",
        "said": _said(panel, figures, unit),
        "rungs": names,
        "figure": {
            "data": traces,
            "layout": {
                "xaxis": {"type": "log" if _wide(every) else "linear"},
                "yaxis": rows(names),
                "annotations": [gap(*there) for there in _gaps(every, rungs)],
                "scattermode": "group",
                "scattergap": 0.4,
                "showlegend": sum(map(bool, figures.values())) > 1,
            },
        },
    }


def _which(panel: Panel, figures: Mapping[str, Sequence[Figure]]) -> str:
    """What a legend would say of the only series."""
    there = [panel.series[key] for key, several in figures.items() if several]
    return f" ({there[0]})" if len(there) == 1 else ""


def _dots(
    figures: Sequence[Figure], name: str, look: tuple[str, str], labelled: bool
) -> list[Json]:
    """The rounds faintly, and the median with a line over their range."""
    colour, symbol = look
    several = [figure for figure in figures if len(figure.values) > 1]
    medians = [figure.median for figure in figures]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [value for figure in several for value in figure.values],
            "y": [label(f.place.contender) for f in several for _ in f.values],
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
            "y": [label(figure.place.contender) for figure in figures],
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


def _gaps(
    figures: Iterable[Figure], rungs: Sequence[Rung]
) -> Iterable[tuple[str, str]]:
    there = {figure.place.contender for figure in figures}
    for rung in rungs:
        if rung.name not in there:
            yield rung.name, "no daemon" if rung.flags is None else "not measured"


def label(name: str) -> str:
    """As plotly wants its texts."""
    return html.escape(name, quote=False)


def gap(rung: str, why: str) -> Json:
    """What to say where a rung has nothing."""
    return {
        "xref": "paper",
        "x": 0,
        "y": label(rung),
        "text": why,
        "showarrow": False,
        "xanchor": "left",
        "xshift": 6,
        "bgcolor": "--surface",
        "font": {"color": "--soft"},
    }


def rows(names: list[str]) -> Json:
    """The ladder's bottom is the chart's top."""
    return {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": [label(name) for name in names],
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
