"""`flannelette top` in lines of text: pure, of a view and a terminal's size.

Colours are the terminal's own sixteen, so that they fit its background; none of them is
alone in what it says. A line is as long as it likes: whoever shows it cuts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from flannelette.control.statusdocument import OUR_PATHS, NodeDocument, StatusDocument
from flannelette.control.text import duration, plural, printable
from flannelette.control.top.figures import chart, gauge, mean, si
from flannelette.control.top.model import Direction, Loss, Queue, View

TX, RX = "cyan", "magenta"
DIM, BAD, WARN, GOOD = "dim", "bold red", "yellow", "green"
HEAD = "black on green"
KEY = "black on cyan"

_SIDE = 36
"""Columns of a sparkline beside the numbers, at most, where charts have no room."""
_CHART_ROWS = 5
_TALL = 34
"""Rows of a terminal that has room for charts."""
_LABEL = 9
"""Columns of a label and the space after it."""

Samples = Sequence[tuple[float, float]]
"""Of tx and rx, bits/s; the newest last."""


@dataclass(frozen=True, slots=True)
class Talk:
    """What is to be said besides the view."""

    interval: float
    """Seconds."""
    paused: bool
    trouble: str | None
    """Why there is no answer now."""


# ---- the title -----------------------------------------------------------------------


def title(shown: View | None, talk: Talk, width: int) -> Text:
    """Who answers, and how it is."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(" flannelette ", "bold")
    if talk.trouble is not None:
        text.append("● ", BAD).append("no daemon" if shown is None else "daemon lost")
    elif shown is None:
        text.append("○ asking")
    else:
        status = shown.status
        text.append(f"{printable(status['version'])}  ")
        ready = status["ready"]
        text.append("● ", GOOD if ready else WARN)
        text.append("ready" if ready else "not ready")
        text.append(f", up {duration(status['uptime'])}")
    right = "  PAUSED  "
    if not talk.paused:
        peers = f"peers {len(shown.peers):,}   " if shown else ""
        right = f"{peers}every {talk.interval:g} s "
    text.pad_right(max(1, width - text.cell_len - len(right)))
    return text.append(right, "bold black on yellow" if talk.paused else DIM)


def waiting(path: Path, talk: Talk) -> Text:
    """In place of everything, until a daemon has answered once."""
    if talk.trouble is None:
        return Text(f"asking the daemon at {printable(str(path))}", DIM)
    text = _line("error", [(printable(talk.trouble), BAD)])
    return text.append("\n").append(" " * _LABEL + "trying again", DIM)


# ---- the summary ---------------------------------------------------------------------


def summary(
    shown: View, samples: Samples, talk: Talk, width: int, height: int
) -> list[Text]:
    """What stands above the peers, for a terminal of that size."""
    tall = height >= _TALL
    status = shown.status
    lines = [*_errors(status, talk), *_facts(status, width, tall)]
    gap = [Text()] if tall else []
    if not shown.directions:
        lines.append(_line("traffic", [_carried_by(status)]))
    else:
        lines += gap
        lines += _directions(shown.directions, samples, width, tall)
        if tall:
            lines += [*gap, *_charts(samples, width), *gap]
        lines += _queues(shown.queues, width, 3 if tall else 1)
        lines += _losses(shown.losses, width, 6 if tall else 2)
    lines += gap
    if talk.trouble is not None:
        for line in lines[1:]:
            line.stylize(DIM)  # it was so, and may be no more
    # The title, the table's head and the help are shown too, and five peers, if three
    # lines remain.
    return lines[: max(0, min(3, height - 4), height - 9)]


Part = tuple[str, str]
"""A text and its style."""


def _line(label: str, parts: Iterable[Part]) -> Text:
    head = (f" {label:{_LABEL - 1}}", "bold")
    return Text.assemble(head, *parts, no_wrap=True, overflow="ellipsis")


def _errors(status: StatusDocument, talk: Talk) -> Iterator[Text]:
    if talk.trouble is not None:
        yield _line("error", [(printable(talk.trouble), BAD)])
    if status["last_error"]:
        yield _line("error", [(printable(status["last_error"]), BAD)])
    store = status["store"]
    if store and store["error"]:
        yield _line("store", [(printable(store["error"]), BAD)])


def _facts(status: StatusDocument, width: int, tall: bool) -> Iterator[Text]:
    node = status["node"]
    yield _line("node", [(printable(_node(node)), "")])
    lease, store = list(_lease(status)), list(_store(status))
    both = _line("lease", [*lease, ("   store ", "bold"), *store])
    if both.cell_len <= width:
        yield both
    else:
        yield _line("lease", lease)
        yield _line("store", store)
    if tall:
        yield _line("path", [(printable(_path(node)), "")])


def _node(node: NodeDocument) -> str:
    if node["public_ip"] is None:
        return "not known yet"
    port = f" port {node['port']}" if node["port"] else ""
    device = f"{node['device'] or 'no device'}, MTU {node['mtu']}"
    return (
        f"{node['public_ip']} by {node['interface']}, {node['backend']}{port}, {device}"
    )


def _path(node: NodeDocument) -> str:
    if node["datapath"] not in OUR_PATHS:
        return "the kernel" if node["datapath"] == "kernel" else "others"
    offloads = " ".join(node["offloads"]) or "none"
    queues = plural(node["queues"], "queue")
    return f"{node['datapath']}, {node['driver']}, {queues}, offloads: {offloads}"


def _carried_by(status: StatusDocument) -> Part:
    datapath = status["node"]["datapath"]
    if datapath == "kernel":
        return "the kernel carries the packets, and counts them", DIM
    if datapath not in OUR_PATHS:
        return "others carry the packets", DIM
    return "none yet", DIM


def _lease(status: StatusDocument) -> Iterator[Part]:
    lease = status["lease"]
    if lease is None:
        yield "none yet", WARN
        return
    yield ", ".join(filter(None, (lease["subnet"], lease["subnet6"]))), ""
    left = lease["expires_in"]
    if left is None:
        yield ", permanent", ""
    elif left <= 0:
        yield ", expired", BAD
    else:
        yield f", {duration(left)} left", ""


def _store(status: StatusDocument) -> Iterator[Part]:
    store = status["store"]
    if store is None:
        yield "not open yet", WARN
    elif store["connected"]:
        yield f"{store['kind']}, connected, revision {store['revision']}", ""
    else:
        yield f"{store['kind']}, ", ""
        yield "not connected", BAD


# ---- traffic -------------------------------------------------------------------------

_WIDTHS = (8, 10, 7, 7, 7, 10, 9)
_HEADS = ("bit/s", "packets/s", "/burst", "/frame", "/call", "pumps/s", "drops/s")


def _directions(
    directions: Sequence[Direction], samples: Samples, width: int, tall: bool
) -> Iterator[Text]:
    heads = "".join(f"{h:>{w}}" for h, w in zip(_HEADS, _WIDTHS, strict=True))
    side = 0 if tall else min(_SIDE, width - _LABEL - sum(_WIDTHS) - 3)
    yield _line("", [(heads, DIM)])
    top = _highest(samples[-side:]) if side > 0 else 0.0
    for index, direction in enumerate(directions):
        colour = (TX, RX)[index]
        text = _line(direction.name, _numbers(direction, colour))
        text.stylize(f"bold {colour}", 0, _LABEL)
        if side > 0:
            (bars,) = chart([sample[index] for sample in samples], side, 1, top)
            text.append("  ").append(bars, colour)
        else:
            packets, size = si(direction.packets), si(direction.bytes)
            text.append(f"   {packets} packets, {_joined(size)}B", DIM)
        yield text


def _numbers(direction: Direction, colour: str) -> Iterator[Part]:
    dropping = direction.drops_rate
    cells = (
        (si(direction.bits_rate), f"bold {colour}"),
        (si(direction.packets_rate), ""),
        (mean(direction.burst), ""),
        (mean(direction.frame), ""),
        (mean(direction.call), ""),
        (si(direction.pumps_rate), ""),
        (si(dropping), WARN if dropping else DIM),
    )
    for (text, style), width in zip(cells, _WIDTHS, strict=True):
        yield f"{text:>{width}}", style


def _joined(number: str) -> str:
    """With room for a unit: `9.41 G` for GB, `812 ` for B."""
    return number if " " in number else f"{number} "


def _highest(samples: Samples) -> float:
    return max((max(sample) for sample in samples), default=0.0)


def _charts(samples: Samples, width: int) -> Iterator[Text]:
    """tx and rx side by side, to the same scale."""
    each = (width - 4) // 2
    top = _highest(samples[-each:])
    both = [
        chart([sample[index] for sample in samples], each, _CHART_ROWS, top)
        for index in (0, 1)
    ]
    for left, right in zip(*both, strict=True):
        yield Text.assemble(" ", (left, TX), "  ", (right, RX), no_wrap=True)
    captions = [f"{name} bit/s, top is {si(top)}".ljust(each) for name in ("tx", "rx")]
    yield Text.assemble(" ", (captions[0], DIM), "  ", (captions[1], DIM), no_wrap=True)


# ---- queues and drops ----------------------------------------------------------------


def _queues(queues: Sequence[Queue], width: int, rows: int) -> list[Text]:
    """The fullest, if not all have room."""
    per_row = max(1, (width - _LABEL) // _QUEUE_WIDTH)
    shown = list(queues)
    if len(shown) > rows * per_row:
        fullest = sorted(shown, key=lambda queue: -queue.fill)
        shown = fullest[: rows * per_row]
    widest = max((len(_name(queue)) for queue in shown), default=0)
    return _in_rows("sockets", [_queue(one, widest) for one in shown], per_row)


_QUEUE_WIDTH = 24


def _name(queue: Queue) -> str:
    return f"{queue.number}/v{queue.version}"


def _queue(queue: Queue, name: int) -> list[Part]:
    colour = GOOD if queue.fill < 0.5 else WARN if queue.fill < 0.9 else BAD
    return [
        (f"{_name(queue):<{name}} ", ""),
        ("▕", DIM),
        (gauge(queue.fill, 8), colour),
        ("▏", DIM),
        (f"{queue.fill:>4.0%}", ""),
        ("   ", ""),
    ]


def _losses(losses: Sequence[Loss], width: int, rows: int) -> list[Text]:
    per_row = max(1, (width - _LABEL) // _LOSS_WIDTH)
    if not losses:
        return [_line("drops", [("none", DIM)])]
    shown = losses[: rows * per_row]
    items = [_loss(loss) for loss in shown]
    if more := len(losses) - len(shown):
        items[-1] = [(f"and {more + 1} reasons more", DIM)]
    return _in_rows("drops", items, per_row)


_LOSS_WIDTH = 35


def _loss(loss: Loss) -> list[Part]:
    style = WARN if loss.rate else DIM
    counts = f"{si(loss.rate)}/s, {si(loss.total)}"
    return [
        (f"{loss.direction} ", DIM),
        (f"{printable(loss.reason):<13.13}", style),
        (f"{counts:>17}  ", style),
    ]


def _in_rows(label: str, items: Sequence[list[Part]], per_row: int) -> list[Text]:
    rows = [items[i : i + per_row] for i in range(0, len(items), per_row)]
    if not rows:  # of a daemon that is only starting
        return []
    labels = [label, *[""] * (len(rows) - 1)]
    return [
        _line(name, [part for item in row for part in item])
        for name, row in zip(labels, rows, strict=True)
    ]


# ---- the keys ------------------------------------------------------------------------

_KEYS = (
    ("q", "quit"),
    ("p", "pause"),
    ("←→ 1-9", "sort"),
    ("r", "reverse"),
    ("↑↓ PgUp PgDn", "scroll"),
)


def keys(width: int) -> Text:
    """What the keys do: as many as have room."""
    text = Text(no_wrap=True)
    for key, does in _KEYS:
        item = Text.assemble((f" {key} ", KEY), f" {does}  ")
        if text.cell_len + item.cell_len <= width:
            text.append_text(item)
    return text
