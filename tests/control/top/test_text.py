"""What stands around the peers, and fits a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flannelette.control import statusdocument
from flannelette.control.top import model
from flannelette.control.top.model import View
from flannelette.control.top.text import (
    Talk,
    keys,
    summary,
    title,
    waiting,
)
from tests.helpers.statusdocuments import direction, document

TALK = Talk(interval=1.0, paused=False, trouble=None)


def shown(**changes: Any) -> View:
    before = statusdocument.parse(document(100.0, tx=0, rx=0))
    now = statusdocument.parse(document(101.0, **changes))
    return model.view(before, now)


def lines_of(view: View, width: int = 80, height: int = 24, **talk: Any) -> list[str]:
    talking = Talk(**{"interval": 1.0, "paused": False, "trouble": None} | talk)
    samples = [(1e9, 2e9)] * 300
    return [line.plain for line in summary(view, samples, talking, width, height)]


def test_a_busy_node_at_80_by_24() -> None:
    view = shown(tx=1_000_000, rx=2_000_000)
    left, right = title(view, TALK, 80).plain.split("  " * 7)
    assert left == " flannelette 0.1.0  ● ready, up 1 min 41 s"
    assert right.strip() == "peers 1   every 1 s"
    assert lines_of(view) == [
        " node    192.0.2.1 by eth0, udp port 8285, flannel0, MTU 1472",
        " lease   10.5.1.0/24, 23 h 59 min left   store etcd, connected, revision 4210",
        "            bit/s packets/s /burst /frame  /call   pumps/s  drops/s",
        " tx        11.2 G    1.00 M   40.0   30.0   20.0    1.67 k        0"
        "  ▄▄▄▄▄▄▄▄▄▄",
        " rx        22.4 G    2.00 M   25.0   30.0   20.0    3.33 k        0"
        "  ██████████",
        " sockets 0/v4 ▕█       ▏ 12%   ",
        " drops   none",
    ]


def test_a_tall_terminal_has_charts_and_totals() -> None:
    said = lines_of(shown(), 120, 40)
    assert " path    native, thread, 1 queue, offloads: vnet" in said[2]
    assert said[5].endswith("   1.00 M packets, 1.40 GB")
    assert said[8].count("█") == 58  # rx is twice tx, to the same scale
    assert said[12].count("█") == 2 * 58
    assert said[13].startswith(" tx bit/s, top is 2.00 G  ")


def test_troubles_come_first() -> None:
    made = document(101.0, last_error="no TUN\x1b[2J")
    made["store"] |= {"connected": False, "error": "connection refused"}
    view = model.view(None, statusdocument.parse(made))
    said = lines_of(view, trouble="no daemon answers at /x")
    assert said[:3] == [
        " error   no daemon answers at /x",
        r" error   no TUN\x1b[2J",
        " store   connection refused",
    ]
    assert "etcd, not connected" in said[4]
    assert said[6].split()[:8] == ["tx", *"-------"]


def test_what_is_old_is_dim() -> None:
    lost = Talk(1.0, False, "no daemon answers")
    error, *old = summary(shown(), [], lost, 80, 24)
    assert "dim" not in {span.style for span in error.spans}
    assert all(line.spans[-1].style == "dim" for line in old)
    assert all(line.spans[-1].end == len(line.plain) for line in old)


@pytest.mark.parametrize(
    ("view", "trouble", "said"),
    [
        (None, None, "○ asking"),
        (None, "gone", "● no daemon"),
        (shown(), "gone", "● daemon lost"),
        (shown(ready=False), None, "0.1.0  ● not ready, up 1 min 41 s"),
        (shown(), None, "0.1.0  ● ready, up 1 min 41 s"),
    ],
)
def test_the_title_tells_who_answers(
    view: View | None, trouble: str | None, said: str
) -> None:
    text = title(view, Talk(1.0, False, trouble), 80).plain
    assert text.startswith(f" flannelette {said} ")
    assert len(text) == 80
    assert title(view, Talk(1.0, True, trouble), 80).plain.endswith("PAUSED  ")


def test_before_the_first_answer() -> None:
    path = Path("/run/flannel/flannelette.sock")
    assert waiting(path, TALK).plain == f"asking the daemon at {path}"
    text = waiting(path, Talk(1.0, False, "no daemon answers")).plain
    assert text == " error   no daemon answers\n         trying again"


def test_a_node_that_waits_and_one_that_the_kernel_carries() -> None:
    waits = document(1.0, counters=None, lease=None, store=None, sockets=[])
    waits["node"] |= dict.fromkeys(("public_ip", "device", "backend", "port"))
    said = lines_of(model.view(None, statusdocument.parse(waits)))
    assert said == [
        " node    not known yet",
        " lease   none yet   store not open yet",
        " traffic none yet",
    ]
    waits["node"] |= {"datapath": "kernel", "public_ip": "192.0.2.1"}
    said = lines_of(model.view(None, statusdocument.parse(waits)))
    assert said[2] == " traffic the kernel carries the packets, and counts them"


@pytest.mark.parametrize(
    ("left", "said"),
    [(None, "10.5.1.0/24, permanent"), (-1.0, "10.5.1.0/24, expired")],
)
def test_lease(left: float | None, said: str) -> None:
    lease = {"subnet": "10.5.1.0/24", "subnet6": None, "expires_in": left}
    assert said in lines_of(shown(lease=lease))[1]


def test_the_store_has_a_line_of_its_own_where_one_is_too_short() -> None:
    lease = {"subnet": "10.5.1.0/24", "subnet6": "fd00:5:0:1::/64", "expires_in": None}
    said = lines_of(shown(lease=lease), 60)
    assert said[1] == " lease   10.5.1.0/24, fd00:5:0:1::/64, permanent"
    assert said[2] == " store   etcd, connected, revision 4210"


@pytest.mark.parametrize("height", range(1, 60))
def test_peers_are_seen_on_any_terminal(height: int) -> None:
    drops = {f"reason_{n}": 100 - n for n in range(9)}
    view = shown(counters={"tx": direction(0, **drops), "rx": direction(0)})
    said = lines_of(view, 80, height, trouble="lost")
    assert len(said) <= max(0, min(3, height - 4), height - 9)


def test_as_many_keys_as_have_room() -> None:
    assert keys(80).plain.startswith(" q  quit   p  pause   ←→ 1-9  sort ")
    assert "scroll" in keys(80).plain
    assert len(keys(80).plain) <= 80
    assert keys(21).plain == " q  quit   p  pause  "
    assert keys(5).plain == ""
