"""Traffic in lines: what was dropped, and where it waits."""

from __future__ import annotations

from typing import Any

from flannelette.control import statusdocument
from flannelette.control.top import model
from flannelette.control.top.model import View
from flannelette.control.top.traffic import traffic
from tests.helpers.statusdocuments import direction, document


def shown(seconds: float = 1.0, **changes: Any) -> View:
    before = statusdocument.parse(document(100.0, tx=0, rx=0))
    now = statusdocument.parse(document(100.0 + seconds, **changes))
    return model.view(before, now)


def said(view: View) -> list[str]:
    samples = [(1e9, 2e9)] * 300
    return [line.plain for line in traffic(view, samples, 80, tall=False)]


def test_drops_are_told_a_second_and_in_all() -> None:
    counters = {"tx": direction(0, no_route=12), "rx": direction(0, bad_vni=40_000)}
    view = shown(2.0, counters=counters, tun_drops=3)
    assert said(view)[-2:] == [
        " drops   rx bad_vni       20.0 k/s, 40.0 k"
        "  tx no_route               6/s, 12  ",
        "         tx TUN full              1.5/s, 3  ",
    ]
    later = statusdocument.parse({**view.status, "uptime": 103.0})
    still = model.view(view.status, later)
    assert "rx bad_vni            0/s, 40.0 k" in said(still)[-2]
    first = model.view(None, view.status)
    assert "rx bad_vni            -/s, 40.0 k" in said(first)[-2]


def test_what_finds_no_room_is_counted() -> None:
    drops = {f"reason_{n}": 100 - n for n in range(9)}
    view = shown(counters={"tx": direction(0, **drops), "rx": direction(0)})
    assert said(view)[-1].endswith("and 6 reasons more")


def test_the_fullest_of_many_sockets_are_shown() -> None:
    made = [
        {"queue": n, "version": 4, "rx_bytes": n, "rx_room": 256, "rx_drops": 0}
        for n in range(256)
    ]
    (line,) = (one for one in said(shown(sockets=made)) if "sockets" in one)
    assert [word for word in line.split() if "/" in word] == ["255/v4", "254/v4"]
