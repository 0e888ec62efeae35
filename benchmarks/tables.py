"""Results as tables of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from flannelette.benchmarks.results import METRICS, Figure, Metric, Results, ratio
from flannelette.benchmarks.screen import WIDTH, Screen

RIVALS = ("vxlan", "flanneld")
"""To whom ratios are drawn."""
_NONE = "-"
_BY_KEY = {metric.key: metric for metric in METRICS}
_SPEED = ("tcp1", "tcp4", "udp64", "udp1400")
_DELAY = ("rtt", "rtt_p99", "rtt_load", "rtt_load_p99")
_COST = ("daemons_gb", "machine_gb", "daemons_mpkt", "machine_mpkt")
_CROSSING = ("copies", "syscalls", "switches")
_PANELS = (
    ("throughput and small packets", _SPEED),
    ("round-trip times", _DELAY),
    ("processor time: TCP 1, and UDP 64 B", _COST),
    ("per packet of TCP 1; copies: bytes over the border per byte", _CROSSING),
)


def show(results: Results, screen: Screen) -> None:
    """Everything: the machine, the figures by wire, the ratios, the notes."""
    screen.title(f"flannelette bench, run {results.run}, {results.started}")
    for name, text in (results.machine | results.settings).items():
        screen.say(_labelled(name, text))
    screen.say()
    for wire in results.wires:
        for title, keys in _PANELS:
            _panel(results, wire, title, keys, screen)
        for rival in RIVALS:
            _ratios(results, wire, rival, screen)
    for note in results.notes:
        screen.say(_labelled("note", note))
    if results.notes:
        screen.say()


def _labelled(name: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"  {name:13}",
        subsequent_indent=" " * 15,
        break_on_hyphens=False,
    )


Cell = Callable[[Figure], str]


def _panel(
    results: Results, wire: str, title: str, keys: Sequence[str], screen: Screen
) -> None:
    def cell(figure: Figure) -> str:
        return f"{number(figure.median)} {_spread(figure)}"

    _grid(results, wire, f"{wire} wire: {title}", keys, cell, screen)


def _ratios(results: Results, wire: str, rival: str, screen: Screen) -> None:
    """Of the throughputs, delays and costs to the rival's."""

    def cell(figure: Figure) -> str:
        theirs = results.figure(wire, rival, figure.place.metric)
        times = None if theirs is None else ratio(figure, theirs)
        return _NONE if times is None else f"{number(times)}x"

    if rival not in results.contenders(wire):
        return
    keys = (*_SPEED, "rtt", "rtt_load", "daemons_gb", "machine_gb")
    _grid(results, wire, f"{wire} wire: times {rival}", keys, cell, screen)


def _grid(
    results: Results,
    wire: str,
    title: str,
    keys: Sequence[str],
    cell: Cell,
    screen: Screen,
) -> None:
    """A row a contender, a column a metric; nothing where no metric was measured."""
    rows = []
    for contender in results.contenders(wire):
        figures = [results.figure(wire, contender, key) for key in keys]
        rows.append([contender, *(_NONE if f is None else cell(f) for f in figures)])
    kept = [
        index
        for index in range(1, len(keys) + 1)
        if any(row[index] != _NONE for row in rows)
    ]
    if not kept:
        return
    metrics = [_BY_KEY[keys[index - 1]] for index in kept]
    screen.heading(title)
    screen.grid(
        [["", *(metric.title for metric in metrics)], ["", *_units(metrics)]],
        [[row[0], *(row[index] for index in kept)] for row in rows],
    )
    screen.say()


def _units(metrics: Sequence[Metric]) -> list[str]:
    return [metric.unit for metric in metrics]


def number(value: float) -> str:
    """Three digits that count, and never an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 or not value else f"{value:.2g}"


def _spread(figure: Figure) -> str:
    return f"±{figure.spread:.0%}" if len(figure.values) > 1 else ""
