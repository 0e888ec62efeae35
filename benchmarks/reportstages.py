"""Charts of where the time goes, as plotly's figures (see reportcharts.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flannelette.benchmarks.labdocument import Rung, StageName
from flannelette.benchmarks.reportcharts import Json, gap, label, rows
from flannelette.benchmarks.reportjourney import number, time

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


_DIRECTIONS: Sequence[tuple[int, str, str, tuple[StageName, ...]]] = (
    (
        1,
        "tx",
        "The sender's daemon: TUN to wire",
        ("read", "lookup", "split", "send", "write"),
    ),
    (
        2,
        "rx",
        "The receiver's daemon: wire to TUN",
        ("receive", "check", "checksum", "merge", "write"),
    ),
)
"""Where the flow's packets pass, and in which order."""

ROOM = 1.25
"""How much longer an axis is than its longest bar: what that took stands beside it."""
Spent = Mapping[str, Mapping[StageName, float]]
"""Nanoseconds per packet, by rung."""


def charts(rungs: Sequence[Rung]) -> list[Json]:
    """A stacked bar for each rung with a daemon, on either host; none where nothing was
    timed."""
    daemons = [rung for rung in rungs if rung.flags is not None]
    found = []
    for host, direction, title, order in _DIRECTIONS:
        spent = {
            rung.name: timed.per_packet()
            for rung in daemons
            for timed in rung.stages or ()
            if (timed.host, timed.direction) == (host, direction) and timed.packets
        }
        if spent:
            names = [rung.name for rung in daemons]
            found.append(_chart(f"stages-{direction}", title, names, order, spent))
    return found


def _chart(
    name: str, title: str, rungs: list[str], order: Sequence[StageName], spent: Spent
) -> Json:
    present = [
        stage for stage in order if any(times.get(stage) for times in spent.values())
    ]
    return {
        "id": name,
        "title": title,
        "unit": "nanoseconds for a packet, less is better",
        "said": _said(title, spent),
        "rungs": rungs,
        "figure": {
            "data": [*(_bar(stage, spent) for stage in present), _sums(spent)],
            "layout": {
                "barmode": "stack",
                "xaxis": {"type": "linear", "range": [0, ROOM * _longest(spent)]},
                "yaxis": rows(rungs),
                "legend": {"traceorder": "normal"},
                "annotations": [
                    gap(rung, "not timed") for rung in rungs if rung not in spent
                ],
                "showlegend": True,
            },
        },
    }


def _bar(stage: StageName, spent: Spent) -> Json:
    times = {name: stages.get(stage, 0.0) for name, stages in spent.items()}
    return {
        "type": "bar",
        "orientation": "h",
        "name": stage,
        "x": list(times.values()),
        "y": [label(name) for name in times],
        "customdata": [number(ns, "ns") for ns in times.values()],
        "marker": {"color": _STAGE_COLOURS[stage], "line": {"width": 0}},
        "hovertemplate": "%{y}: %{customdata}<extra>" + stage + "</extra>",
    }


def _longest(spent: Spent) -> float:
    return max(sum(stages.values()) for stages in spent.values())


def _sums(spent: Spent) -> Json:
    """Beside the bars; charts.js leaves it out where bars are shares."""
    sums = [sum(stages.values()) for stages in spent.values()]
    return {
        "type": "scatter",
        "mode": "text",
        "x": sums,
        "y": [label(name) for name in spent],
        "text": [f" {time(ns)}" for ns in sums],
        "textposition": "middle right",
        "textfont": {"color": "--ink"},
        "cliponaxis": False,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _said(title: str, spent: Spent) -> str:
    each = (
        f"{name}: " + ", ".join(f"{s} {number(ns)}" for s, ns in stages.items() if ns)
        for name, stages in spent.items()
    )
    return f"{title}, nanoseconds for a packet. " + "; ".join(each) + "."
