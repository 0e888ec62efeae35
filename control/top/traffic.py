"""The traffic in `flannelette top`: tx and rx, charts, sockets and drops. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from flannelette.control.text import LABEL, printable
from flannelette.control.top.figures import chart, gauge, mean, si
from flannelette.control.top.model import Direction, Loss, Queue, View
from flannelette.control.top.style import BAD, DIM, GOOD, RX, TX, WARN, Part, labelled

_SIDE = 36
"""Columns of a sparkline beside the numbers, at most, where charts have no room."""
_CHART_ROWS = 5

Samples = Sequence[tuple[float, float]]
"""Of tx and rx, bits/s; the newest last."""


def traffic(shown: View, samples: Samples, width: int, tall: bool) -> list[Text]:
    """Of a view that has directions; `tall`: there is room for charts."""
    gap = [Text()] if tall else []
    charts = [*gap, *_charts(samples, width), *gap] if tall else []
    return [
        *_directions(shown.directions, samples, width, tall),
        *charts,
        *_queues(shown.queues, width, 3 if tall else 1),
        *_losses(shown.losses, width, 6 if tall else 2),
    ]


# ---- tx and rx -----------------------------------------------------------------------

_WIDTHS = (8, 10, 7, 7, 7, 10, 9)
_HEADS = ("bit/s", "packets/s", "/burst", "/frame", "/call", "pumps/s", "drops/s")


def _directions(
    directions: Sequence[Direction], samples: Samples, width: int, tall: bool
) -> Iterator[Text]:
    heads = "".join(f"{h:>{w}}" for h, w in zip(_HEADS, _WIDTHS, strict=True))
    side = 0 if tall else min(_SIDE, width - LABEL - sum(_WIDTHS) - 3)
    yield labelled("", [(heads, DIM)])
    top = _highest(samples[-side:]) if side > 0 else 0.0
    for index, direction in enumerate(directions):
        colour = (TX, RX)[index]
        text = labelled(direction.name, _numbers(direction, colour))
        text.stylize(f"bold {colour}", 0, LABEL)
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


# ---- sockets and drops ---------------------------------------------------------------


def _queues(queues: Sequence[Queue], width: int, rows: int) -> list[Text]:
    """The fullest, if not all have room."""
    per_row = max(1, (width - LABEL) // _QUEUE_WIDTH)
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
    per_row = max(1, (width - LABEL) // _LOSS_WIDTH)
    if not losses:
        return [labelled("drops", [("none", DIM)])]
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
        labelled(name, [part for item in row for part in item])
        for name, row in zip(labels, rows, strict=True)
    ]
