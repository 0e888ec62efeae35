"""The table of peers in `flannelette top`: pure, for a width.

Columns that do not fit are left out: totals first, then subnets, then packets. What
remains of the width goes to the addresses and subnets. Below 20 columns, lines are cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from flannelette.control.text import printable
from flannelette.control.top.figures import ago, si
from flannelette.control.top.model import Column, Peer
from flannelette.control.top.style import DIM, HEAD, KEY, RX, TX, Part

_HEADS = {
    Column.PEER: "peer",
    Column.SUBNET: "subnets",
    Column.TX_BITS: "tx bit/s",
    Column.TX_PACKETS: "tx pkt/s",
    Column.TX_BYTES: "tx bytes",
    Column.RX_BITS: "rx bit/s",
    Column.RX_PACKETS: "rx pkt/s",
    Column.RX_BYTES: "rx bytes",
    Column.IDLE: "idle",
}
_NAME = 15
"""Columns that an IPv4 address has, at most."""
_NUMBER = 10
"""With the gap before it, which the arrow of the order stands in."""
_APART = 4
"""More columns that a number may have where there is room."""
_IDLE = 7
_WIDTHS = {column: _NUMBER for column in Column} | {
    Column.PEER: 1 + _NAME,
    Column.SUBNET: 1 + _NAME,
    Column.IDLE: _IDLE,
}
_LEFT_OUT = (
    (Column.TX_BYTES, Column.RX_BYTES),
    (Column.SUBNET,),
    (Column.TX_PACKETS, Column.RX_PACKETS),
    (Column.IDLE,),
)


class Table:
    """How peers are laid out in lines of a width."""

    def __init__(self, width: int, peers: Sequence[Peer]) -> None:
        columns = list(Column)
        for group in _LEFT_OUT:
            if sum(_WIDTHS[column] for column in columns) <= width:
                break
            columns = [column for column in columns if column not in group]
        self.columns = tuple(columns)
        """Those that are shown, from the left."""
        self._widths = _spread(self.columns, width, peers)

    def head(self, by: Column, reverse: bool) -> Text:
        """The names of the columns; an arrow tells the order. It reaches over the
        scrollbar, one column more."""
        text = Text(no_wrap=True)
        for column, width in zip(self.columns, self._widths, strict=True):
            down = column.falling != reverse
            arrow = ("▼" if down else "▲") if column is by else ""
            name = _HEADS[column]
            cell = f"{name}{arrow}" if _is_text(column) else f"{arrow}{name}"
            style = KEY if column is by else HEAD
            text.append(_aligned(column, cell, width), style)
        return text.append(" ", HEAD)

    def row(self, peer: Peer) -> list[Part]:
        """Texts as wide as the table, and their styles."""
        return [
            (_aligned(column, text, width), style)
            for column, width in zip(self.columns, self._widths, strict=True)
            for text, style in [_cell(column, peer)]
        ]


def _spread(
    columns: Sequence[Column], width: int, peers: Sequence[Peer]
) -> tuple[int, ...]:
    """The columns' widths: addresses and subnets have what they need before numbers
    stand further apart."""
    widths = {column: _WIDTHS[column] for column in columns}
    left = width - sum(widths.values())
    if left < 0:
        widths[Column.PEER] = max(0, widths[Column.PEER] + left)
        return tuple(widths.values())
    for column, wants in (
        (Column.PEER, max((1 + len(peer.address) for peer in peers), default=0)),
        (Column.SUBNET, max((1 + len(_subnets(peer)) for peer in peers), default=0)),
    ):
        if column in widths:
            more = min(left, max(0, wants - widths[column]))
            widths[column] += more
            left -= more
    numbers = [column for column in columns if not _is_text(column)]
    apart = min(_APART, left // max(1, len(numbers)))
    for column in numbers:
        widths[column] += apart
    rest = Column.SUBNET if Column.SUBNET in widths else Column.PEER
    widths[rest] += left - apart * len(numbers)
    return tuple(widths.values())


def _subnets(peer: Peer) -> str:
    return " ".join(peer.subnets)


def _is_text(column: Column) -> bool:
    return column in (Column.PEER, Column.SUBNET)


def _aligned(column: Column, text: str, width: int) -> str:
    """Exactly so wide, with a gap before it."""
    if not _is_text(column):
        return f"{text:>{width}}"[-width:] if width else ""
    room = max(0, width - 1)
    if len(text) > room:
        text = text[: room - 1] + "…" if room else ""
    return f" {text:<{room}}"[:width]


def _cell(column: Column, peer: Peer) -> Part:
    if column is Column.PEER:
        return printable(peer.address), ""
    if column is Column.SUBNET:
        return printable(_subnets(peer)), DIM
    if column is Column.IDLE:
        quiet = peer.idle is None or peer.idle >= 60
        return ago(peer.idle), DIM if quiet else ""
    value: float | None = getattr(peer, column.value)
    colour = TX if column.name.startswith("TX") else RX
    return si(value), colour if value else DIM
