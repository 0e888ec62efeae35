"""`flannelette top` on a terminal. What is said, text.py, traffic.py and table.py know.

A thread asks the daemon, which may block for seconds; all else happens on the loop.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Group
from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Static

from flannelette.control import statusdocument
from flannelette.control.errors import HostError
from flannelette.control.operator import client
from flannelette.control.statusdocument import StatusDocument
from flannelette.control.top import model
from flannelette.control.top.model import Column, Peer, View
from flannelette.control.top.table import Table
from flannelette.control.top.text import Talk, keys, summary, title, waiting

SAMPLES = 512
"""That charts are made of: as many as the widest terminal shows."""

Ask = Callable[[], dict[str, Any]]
"""The daemon's status document. Blocks; raises HostError."""


class Answer(Message):
    """What came of asking the daemon once: its status, or why there is none."""

    def __init__(self, status: StatusDocument | None, trouble: str | None) -> None:
        super().__init__()
        self.status = status
        self.trouble = trouble


class Asker(threading.Thread):
    """Asks again and again. A daemon thread: to quit is not to wait for an answer."""

    def __init__(
        self, ask: Ask, interval: float, tell: Callable[[Answer], Any]
    ) -> None:
        super().__init__(name="asker", daemon=True)
        self._ask, self._interval, self._tell = ask, interval, tell
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                answer = Answer(statusdocument.parse(self._ask()), None)
            except HostError as error:
                answer = Answer(None, str(error))
            if not self._stopped.is_set():
                self._tell(answer)
            self._stopped.wait(self._interval)

    def stop(self) -> None:
        """Tell nothing more, and end soon."""
        self._stopped.set()


class Peers(ScrollView, can_focus=True):
    """Draws the rows that are seen, and no others: there may be thousands."""

    def __init__(self) -> None:
        super().__init__()
        self._table = Table(0, ())
        self._peers: Sequence[Peer] = ()

    def show(self, table: Table, peers: Sequence[Peer]) -> None:
        self._table, self._peers = table, peers
        self.virtual_size = Size(self.scrollable_content_region.width, len(peers))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        number = y + self.scroll_offset.y
        base = self.rich_style
        if number >= len(self._peers):
            return Strip.blank(self.size.width, base)
        parts = self._table.row(self._peers[number])
        cells = [Segment(text, base + Style.parse(style)) for text, style in parts]
        return Strip(cells).adjust_cell_length(self.size.width, base)


class Top(App[None]):
    """Shows what `ask` answers, each `interval` seconds."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Static { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    #summary { height: auto; }
    Peers {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,escape,ctrl+c", "quit"),
        Binding("p,space", "pause"),
        Binding("r", "reverse"),
        Binding("left", "sort_beside(-1)", priority=True),
        Binding("right", "sort_beside(1)", priority=True),
        *(Binding(str(n), f"sort_at({n - 1})") for n in range(1, len(Column) + 1)),
        Binding("j", "down"),
        Binding("k", "up"),
        Binding("ctrl+z", "suspend_process"),
    ]

    def __init__(self, path: Path, ask: Ask, interval: float) -> None:
        super().__init__()
        self.theme = "ansi-dark"
        self._path = path
        self._interval = interval
        self._asker = Asker(ask, interval, self.post_message)
        self.samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        """Of tx and rx, bits/s, one for each answer."""
        self._last: StatusDocument | None = None
        """What rates are counted from; None: from now on."""
        self._heard: tuple[View | None, str | None] = (None, None)
        self._shown: tuple[View | None, str | None] = (None, None)
        """What was heard last, and what of it is shown: paused, they differ."""
        self._paused = False
        self._by, self._reverse = Column.TX_BITS, False
        self._table = Table(0, ())
        self._title, self._summary = Static(), Static(id="summary")
        self._head, self._peers, self._keys = Static(), Peers(), Static()

    def compose(self) -> ComposeResult:
        yield self._title
        yield self._summary
        yield self._head
        yield self._peers
        yield self._keys

    def on_mount(self) -> None:
        self._peers.focus()
        self._asker.start()

    def on_unmount(self) -> None:
        self._asker.stop()

    # ---- what is heard ---------------------------------------------------------------

    def on_answer(self, answer: Answer) -> None:
        view, _ = self._heard
        if answer.status is not None:
            view = model.view(self._last, answer.status)
        elif view is not None:  # the last one stays, without its rates
            view = model.view(None, view.status)
        self._last = answer.status
        self._heard = view, answer.trouble
        self.samples.append(_sample(view))
        if not self._paused:
            self._draw()

    # ---- what is drawn ---------------------------------------------------------------

    def on_resize(self, _: Resize) -> None:
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        """Everything, to the size that the terminal has."""
        if not self._paused:
            self._shown = self._heard
        view, trouble = self._shown
        talk = Talk(self._interval, self._paused, trouble)
        width, height = self.size
        self._title.update(title(view, talk, width))
        self._keys.update(keys(width))
        if view is None:
            self._summary.update(waiting(self._path, talk))
            return
        lines = summary(view, list(self.samples), talk, width, height)
        self._summary.update(Group(*lines))
        peers = model.in_order(view.peers, self._by, self._reverse)
        self._table = Table(width - 1, peers)  # the scrollbar has one
        self._head.update(self._table.head(self._by, self._reverse))
        self._peers.show(self._table, peers)

    # ---- keys ------------------------------------------------------------------------

    def action_pause(self) -> None:
        self._paused = not self._paused
        self._draw()

    def action_reverse(self) -> None:
        self._reverse = not self._reverse
        self._draw()

    def action_sort_at(self, place: int) -> None:
        """By the column in that place; by the same one again: reversed."""
        columns = self._table.columns
        if place >= len(columns):
            return
        column = columns[place]
        self._reverse = column is self._by and not self._reverse
        self._by = column
        self._draw()

    def action_sort_beside(self, step: int) -> None:
        columns = self._table.columns
        at = columns.index(self._by) if self._by in columns else 0
        self._by, self._reverse = columns[(at + step) % len(columns)], False
        self._draw()

    def action_down(self) -> None:
        self._peers.action_scroll_down()

    def action_up(self) -> None:
        self._peers.action_scroll_up()


def _sample(view: View | None) -> tuple[float, float]:
    """tx and rx, bits/s; 0 where it is not known."""
    if view is None or not view.directions:
        return 0.0, 0.0
    tx, rx = (direction.bits_rate or 0.0 for direction in view.directions)
    return tx, rx


def main(path: Path, interval: float) -> int:
    """Show the daemon that answers at path, until the operator quits; the exit code."""
    app = Top(path, lambda: client.ask(path, "status"), interval)
    asyncio.run(_until_quit(app))
    return app.return_code or 0


async def _until_quit(app: Top) -> None:
    """Also when the connection is lost, or somebody ends the process: the terminal is
    to be as it was before."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, app.exit)
    # No mouse: so that the terminal's own way to mark and copy works.
    await app.run_async(mouse=False)
