"""Results as tables of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence

from flannelette.benchmarks.bars import Verdict
from flannelette.benchmarks.contenders import BY_NAME
from flannelette.benchmarks.micro import NO_WIRE
from flannelette.benchmarks.results import METRICS, Figure, Results, ratio
from flannelette.benchmarks.screen import WIDTH, Screen

RIVALS = ("vxlan", "flanneld")
"""To whom ratios are drawn."""
_NONE = "-"
_PANELS = (
    ("throughput and loss-free rate", ("tcp1", "tcp4", "udp64", "udp1400")),
    ("round-trip time", ("rtt", "rtt_p99", "rtt_load", "rtt_load_p99")),
    ("processor time", ("daemons_gb", "machine_gb", "daemons_mpkt", "machine_mpkt")),
    ("what crosses the border of the kernel", ("copies", "syscalls", "switches")),
    ("by itself", ("lookup", "join")),
)
_RATIOS = {
    "tcp1": ("TCP 1",),
    "tcp4": ("TCP 4",),
    "udp64": ("UDP 64 B",),
    "udp1400": ("UDP 1400",),
    "rtt": ("RTT idle",),
    "rtt_load": ("RTT load",),
    "daemons_gb": ("CPU/GB",),
}
"""What ratios are drawn of; the CPU time is that of the daemons."""
_HEADS = {metric.key: (metric.title, metric.unit) for metric in METRICS}

Cell = Callable[[Figure], str]


def show(results: Results, screen: Screen) -> None:
    """All of it: the machine, the figures by wire with their ratios, the notes."""
    screen.title(f"flannelette bench, run {results.run}, {results.started}")
    for name, text in (results.machine | results.settings).items():
        screen.say(labelled(name, text))
    screen.say()
    _legend(results, screen)
    for wire in sorted(results.wires, key=NO_WIRE.__eq__):  # which comes last
        for title, keys in _PANELS:
            heads = {key: _HEADS[key] for key in keys}
            _grid(results, wire, _on(wire, title), heads, _median, screen)
        for rival in RIVALS:
            if rival in results.contenders(wire):
                title = _on(wire, f"times {rival}")
                _grid(results, wire, title, _RATIOS, _over(results, rival), screen)
    for note in results.notes:
        screen.say(labelled("note", note))
    if results.notes:
        screen.say()


def show_bars(verdicts: Sequence[Verdict], screen: Screen) -> None:
    """Each bar, what was found, and whether it is met."""
    rows = []
    for verdict in verdicts:
        bar, found = verdict.bar, verdict.found
        unit = f" {_HEADS[bar.metric][1]}" if bar.rival is None else "x"
        limit = f"{'≤' if bar.at_most else '≥'} {number(bar.limit)}{unit}"
        result = "not measured" if found is None else f"{number(found)}{unit}"
        met = "met" if verdict.met else "NOT MET"
        rows.append([bar.about, bar.wire, bar.rival or _NONE, limit, result, met])
    if rows:
        screen.table(["BAR", "WIRE", "AGAINST", "WANTED", "FOUND", ""], rows)
    screen.say()


def _legend(results: Results, screen: Screen) -> None:
    present = {figure.place.contender for figure in results}
    for name in _in_order(present & set(BY_NAME)):
        screen.say(labelled(name, BY_NAME[name].about))
    screen.say(
        "\nMedians over the rounds, ± half of what lies between the least and the most."
        "\nCPU time per GB and what crosses: of one TCP flow, a packet being a full one"
        "\nof the overlay's MTU; per million packets: of 64 B datagrams, loss-free.\n"
    )


def _on(wire: str, title: str) -> str:
    return title if wire == NO_WIRE else f"{wire} wire: {title}"


def labelled(name: str, text: str) -> str:
    """A line, or several, of what has a name."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"  {name:13}",
        subsequent_indent=" " * 15,
        break_on_hyphens=False,
    )


def _median(figure: Figure) -> str:
    spread = f" ±{figure.spread:.0%}" if len(figure.values) > 1 else ""
    return number(figure.median) + spread


def _over(results: Results, rival: str) -> Cell:
    def cell(figure: Figure) -> str:
        theirs = results.figure(figure.place.wire, rival, figure.place.metric)
        times = None if theirs is None else ratio(figure, theirs)
        return _NONE if times is None else f"{number(times)}x"

    return cell


def _grid(
    results: Results,
    wire: str,
    title: str,
    heads: Mapping[str, Sequence[str]],
    cell: Cell,
    screen: Screen,
) -> None:
    """A row a contender, a column a metric; only those with figures."""
    names = _in_order(results.contenders(wire))
    columns = []
    for key, head in heads.items():
        figures = [results.figure(wire, name, key) for name in names]
        cells = [cell(figure) if figure else _NONE for figure in figures]
        if set(cells) - {_NONE}:
            columns.append((head, cells))
    if not columns:
        return
    depth = len(columns[0][0])
    lines = zip(
        [""] * depth + names, *([*head, *cells] for head, cells in columns), strict=True
    )
    screen.heading(title)
    screen.grid(list(lines), depth)
    screen.say()


def _in_order(names: Iterable[str]) -> list[str]:
    """From no overlay to the top of the ladder; others after them."""
    order = list(BY_NAME)
    return sorted(names, key=lambda n: order.index(n) if n in order else len(order))


def number(value: float) -> str:
    """At least two digits that count, and never an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    if value >= 0.1 or value < 1e-4:
        return f"{value:.2f}"
    return f"{value:.2g}"
