"""Top on a terminal of textual's own, with a daemon that says what the test wants."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from flannelette.control.errors import HostError
from flannelette.control.top.screen import Top
from tests.helpers.statusdocuments import document, peer
from tests.helpers.storerig import eventually

NOBODY = HostError("no daemon answers at /run/x.sock: Connection refused")


class Daemon:
    """Answers each time it is told to, and not before."""

    def __init__(self) -> None:
        self._may = threading.Semaphore(0)
        self._next: list[dict[str, Any] | HostError] = []

    def says(self, *answers: dict[str, Any] | HostError) -> None:
        self._next += answers
        self._may.release(len(answers))

    def ask(self) -> dict[str, Any]:
        self._may.acquire()
        answer = self._next.pop(0)
        if isinstance(answer, HostError):
            raise answer
        return answer

    def go(self) -> None:
        """Let a thread end that asks for what nobody will answer."""
        self.says(NOBODY)


class Screen:
    """What is seen, and hands to press keys."""

    def __init__(self, app: Top, pilot: Pilot[None], daemon: Daemon) -> None:
        self.app, self.pilot, self.daemon = app, pilot, daemon

    @property
    def lines(self) -> list[str]:
        strips = self.app.screen._compositor.render_strips()  # as it would be written
        return [strip.text for strip in strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def column(self, number: int = 0) -> list[str]:
        """Of the table that is seen, without its head."""
        lines = self.lines
        (top,) = (n for n, line in enumerate(lines) if line.startswith(" peer"))
        rows = [line.split() for line in lines[top + 1 : -1]]
        return [row[number] for row in rows if row]

    async def shows(self, text: str) -> None:
        await eventually(lambda: text in self.text)

    async def hears(self, *answers: dict[str, Any] | HostError) -> None:
        """Let the daemon answer, and wait until all that has been heard."""
        heard = len(self.app.samples) + len(answers)
        self.daemon.says(*answers)
        await eventually(lambda: len(self.app.samples) == heard)
        await self.pilot.pause()


@asynccontextmanager
async def screen(width: int = 80, height: int = 24) -> AsyncIterator[Screen]:
    daemon = Daemon()
    app = Top(Path("/run/x.sock"), daemon.ask, interval=0.001)
    try:
        async with app.run_test(size=(width, height)) as pilot:
            await pilot.pause()
            yield Screen(app, pilot, daemon)
    finally:
        daemon.go()


def busy(
    uptime: float, peers: int = 3, packets: int = 1000, **changes: Any
) -> dict[str, Any]:
    """Peer N has sent N times as many packets as have been sent to it."""
    rows = [peer(n, packets, n * packets) for n in range(1, peers + 1)]
    return document(uptime, rows, tx=packets, rx=packets, **changes)


async def test_it_asks_and_then_shows_at_80_by_24() -> None:
    async with screen() as it:
        assert "asking the daemon at /run/x.sock" in it.text
        await it.hears(busy(1.0, packets=0), busy(2.0))
        assert [len(line) for line in it.lines] == [80] * 24
        assert it.lines[0].startswith(" flannelette 0.1.0  ● ready, up 2 s ")
        assert it.lines[-1].startswith(" q  quit   p  pause ")
        assert it.column(0) == ["192.0.0.2", "192.0.0.3", "192.0.0.4"]
        assert it.column(2) == ["11.2", "11.2", "11.2"]  # Mbit/s


@pytest.mark.parametrize(
    ("width", "height"), [(20, 5), (60, 20), (100, 30), (132, 43), (200, 60)]
)
async def test_every_size_is_filled_and_not_overflown(width: int, height: int) -> None:
    troubles = {"last_error": "a long story " * 50, "tun_drops": 7}
    async with screen(width, height) as it:
        await it.hears(busy(1.0, 1000), busy(2.0, 1000, 5000, **troubles))
        assert [len(line) for line in it.lines] == [width] * height
        assert "192.0." in it.text or height < 12
        assert " q " in it.lines[-1]


async def test_another_size_is_drawn_anew() -> None:
    async with screen() as it:
        await it.hears(busy(1.0), busy(2.0))
        assert "tx bytes" not in it.text
        await it.pilot.resize_terminal(140, 50)
        await it.shows("tx bytes")
        assert "tx bit/s, top is" in it.text
        assert [len(line) for line in it.lines] == [140] * 50


async def test_only_rows_that_are_seen_are_made(monkeypatch: Any) -> None:
    from flannelette.control.top.table import Table

    made = 0
    row = Table.row

    def counted(self: Table, one: Any) -> Any:
        nonlocal made
        made += 1
        return row(self, one)

    monkeypatch.setattr(Table, "row", counted)
    async with screen() as it:
        await it.hears(busy(1.0, 1000))
        assert len(it.column()) == 14
        before = made
        await it.hears(busy(2.0, 1000))
        assert made - before < 100


async def test_it_scrolls() -> None:
    async with screen() as it:
        await it.hears(busy(1.0, 1000))
        await it.pilot.press("1")
        first = it.column()
        await it.pilot.press("j")
        await eventually(lambda: it.column()[0] == first[1])
        await it.pilot.press("k")
        await eventually(lambda: it.column() == first)
        await it.pilot.press("pagedown")
        await eventually(lambda: it.column()[0] == "192.0.0.16")
        await it.pilot.press("end")
        await eventually(lambda: it.column()[-1] == "192.0.4.1")
        await it.hears(busy(2.0, 1000))
        assert it.column()[-1] == "192.0.4.1", "what comes next scrolls nothing"
        await it.hears(busy(3.0, 5))
        assert len(it.column()) == 5, "fewer peers are seen from the first one"


async def test_keys_choose_the_order() -> None:
    async with screen() as it:
        await it.hears(busy(1.0, packets=0), busy(2.0))
        up, down = ["192.0.0.2", "192.0.0.3", "192.0.0.4"], ["4", "3", "2"]
        assert "▼tx bit/s" in it.text
        for key, head, last in (
            ("right", "▼tx pkt/s", "4"),
            ("right", "▼rx bit/s", "2"),
            ("r", "▲rx bit/s", "4"),
            ("5", "▼rx bit/s", "2"),
            ("5", "▲rx bit/s", "4"),
            ("1", "peer▲", "4"),
            ("1", "peer▼", "2"),
            ("left", "▲idle", "4"),
            ("9", "▲idle", "4"),
        ):
            await it.pilot.press(key)
            await it.shows(head)
            expected = up if last == "4" else [f"192.0.0.{n}" for n in down]
            assert it.column() == expected


async def test_paused_nothing_moves_but_the_order() -> None:
    async with screen() as it:
        await it.hears(busy(1.0, packets=0), busy(2.0))
        await it.pilot.press("p")
        await it.shows("PAUSED")
        still = it.lines[1:]
        await it.hears(busy(3.0, packets=9999, peers=5), NOBODY)
        assert it.lines[1:] == still
        await it.pilot.press("1")
        await it.pilot.press("r")
        await it.shows("peer▼")
        assert it.column()[0] == "192.0.0.4"
        await it.pilot.press("space")
        await it.shows("no daemon answers at /run/x.sock")
        assert "PAUSED" not in it.text
        assert len(it.column()) == 5


async def test_a_daemon_that_starts_again() -> None:
    async with screen() as it:
        await it.hears(NOBODY)
        assert "● no daemon" in it.lines[0]
        assert "no daemon answers at /run/x.sock: Connection refused" in it.text
        await it.hears(busy(500.0, packets=7_000_000), busy(501.0, packets=7_000_100))
        assert it.column(2) == ["1.12", "1.12", "1.12"]
        await it.hears(NOBODY)
        assert "● daemon lost" in it.lines[0]
        assert it.column(2) == ["-", "-", "-"], "old rates are no rates"
        await it.hears(busy(600.0, packets=50))
        assert it.column(2) == ["-", "-", "-"], "nor is what came in between"
        await it.hears(busy(601.0, packets=60))
        assert it.column(2) == ["112", "112", "112"]
        await it.hears(busy(0.5, packets=1))
        assert it.column(2) == ["-", "-", "-"], "a restart between two looks"
        assert "ready, up 0 s" in it.lines[0]


async def test_another_versions_answer_is_said() -> None:
    async with screen() as it:
        await it.hears({"version": "9.9"})
        assert "the daemon's status is not understood" in it.text
        await it.hears(busy(1.0))
        assert "not understood" not in it.text


@pytest.mark.parametrize("key", ["q", "escape", "ctrl+c", "ctrl+q"])
async def test_it_quits_though_the_daemon_hangs(key: str) -> None:
    async with screen() as it:
        await it.pilot.press(key)
        assert it.app.return_code == 0
        askers = [thread for thread in threading.enumerate() if thread.name == "asker"]
        assert [thread.daemon for thread in askers] == [True], "it waits for none"
