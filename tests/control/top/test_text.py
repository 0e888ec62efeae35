"""Top's lines: numbers of a few columns, pictures, and what fits a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from rich.text import Text

from flannelette.control import statusdocument
from flannelette.control.top import model
from flannelette.control.top.figures import ago, chart, gauge, si
from flannelette.control.top.model import Column, Peer, View
from flannelette.control.top.table import Table
from flannelette.control.top.text import (
    Talk,
    keys,
    summary,
    title,
    waiting,
)
from tests.helpers.statusdocuments import direction, document, peer

TALK = Talk(interval=1.0, paused=False, trouble=None)


# ---- numbers and pictures ------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.04, "0.0"),
        (7, "7"),
        (7.5, "7.5"),
        (9.96, "10"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (9_994, "9.99 k"),
        (9_996, "10.0 k"),
        (99_960, "100 k"),
        (999_600, "1.00 M"),
        (9.41e9, "9.41 G"),
        (2**64, "18.4 E"),
    ],
)
def test_si(value: float | None, text: str) -> None:
    assert si(value) == text


@given(st.floats(0, 1e21, exclude_max=True) | st.integers(0, 2**64))
def test_six_columns_are_enough(value: float) -> None:
    assert len(si(value)) <= 6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "never"), (0.9, "now"), (1, "1 s"), (3599, "59 min"), (90000, "1 d")],
)
def test_ago(seconds: float | None, text: str) -> None:
    assert ago(seconds) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [(0, "    "), (1e-9, "▏   "), (0.5, "██  "), (0.53, "██▏ "), (1, "████")],
)
def test_gauge(part: float, text: str) -> None:
    assert gauge(part, 4) == text
    assert gauge(7.0, 4) == "████"


def test_a_chart_has_the_newest_at_the_right() -> None:
    assert chart([9, 0, 1, 4, 8], 4, 2, 8) == ["   █", " ▂██"]
    assert chart([8], 3, 1, 8) == ["  █"]
    assert chart([0, 0.001], 2, 1, 8) == [" ▁"]
    assert chart([0, 0], 2, 1, 0) == ["  "]
    assert chart([1], 0, 1, 1) == [""]


# ---- what is above the peers ---------------------------------------------------------


def shown(seconds: float = 1.0, **changes: Any) -> View:
    before = statusdocument.parse(document(100.0, tx=0, rx=0))
    now = statusdocument.parse(document(100.0 + seconds, **changes))
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


def test_drops_are_told_a_second_and_in_all() -> None:
    counters = {"tx": direction(0, no_route=12), "rx": direction(0, bad_vni=40_000)}
    view = shown(2.0, counters=counters, tun_drops=3)
    assert lines_of(view)[-2:] == [
        " drops   rx bad_vni       20.0 k/s, 40.0 k"
        "  tx no_route               6/s, 12  ",
        "         tx TUN full              1.5/s, 3  ",
    ]
    later = statusdocument.parse({**view.status, "uptime": 103.0})
    still = model.view(view.status, later)
    assert "rx bad_vni            0/s, 40.0 k" in lines_of(still)[-2]
    first = model.view(None, view.status)
    assert "rx bad_vni            -/s, 40.0 k" in lines_of(first)[-2]


def test_what_finds_no_room_is_counted() -> None:
    drops = {f"reason_{n}": 100 - n for n in range(9)}
    view = shown(counters={"tx": direction(0, **drops), "rx": direction(0)})
    assert lines_of(view)[-1].endswith("and 6 reasons more")


def test_the_fullest_of_many_sockets_are_shown() -> None:
    made = [
        {"queue": n, "version": 4, "rx_bytes": n, "rx_room": 256, "rx_drops": 0}
        for n in range(256)
    ]
    (line,) = (one for one in lines_of(shown(sockets=made)) if "sockets" in one)
    assert [word for word in line.split() if "/" in word] == ["255/v4", "254/v4"]


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


# ---- the table -----------------------------------------------------------------------


def row(table: Table, one: Peer) -> str:
    return "".join(text for text, _ in table.row(one))


PEERS = model.view(
    statusdocument.parse(document(100.0, [peer(1, 0, 0), peer(2, 0, 0)])),
    statusdocument.parse(
        document(101.0, [peer(1, 812_000, 0), peer(2, 3, 50, idle=None)])
    ),
).peers


def test_the_table_at_80_columns() -> None:
    table = Table(79, PEERS)
    assert table.head(Column.TX_BITS, False).plain == (
        " peer            subnets        "
        " ▼tx bit/s  tx pkt/s  rx bit/s  rx pkt/s   idle "
    )
    assert [row(table, one) for one in PEERS] == [
        " 192.0.0.2       10.5.2.0/24    "
        "    9.09 G     812 k         0         0    now",
        " 192.0.0.3       10.5.3.0/24    "
        "    33.6 k         3     560 k        50  never",
    ]


@pytest.mark.parametrize(
    ("by", "reverse", "said"),
    [
        (Column.PEER, False, " peer▲ "),
        (Column.PEER, True, " peer▼ "),
        (Column.IDLE, False, " ▲idle"),
        (Column.RX_BITS, True, " ▲rx bit/s"),
    ],
)
def test_an_arrow_tells_the_order(by: Column, reverse: bool, said: str) -> None:
    assert said in Table(79, PEERS).head(by, reverse).plain


def test_room_brings_more_columns_and_little_leaves_some_out() -> None:
    assert set(Column) - set(Table(79, PEERS).columns) == {
        Column.TX_BYTES,
        Column.RX_BYTES,
    }
    assert Table(99, PEERS).columns == tuple(Column)
    assert Column.SUBNET not in Table(70, PEERS).columns
    assert Table(45, PEERS).columns[:2] == (Column.PEER, Column.TX_BITS)
    assert len(Table(45, PEERS).columns) == 4


def test_what_is_too_long_is_cut() -> None:
    six = "2001:db8:ffff:ffff:ffff:ffff:ffff:fff1"
    long = Peer(six, ("fd00:5:0:1::/64", "10.5.1.0/24"), 1, 1, 1, 1, 1, 1, 0)
    assert row(Table(79, [long]), long).startswith(" 2001:db8:ffff:… fd00:5:0:1::/6… ")
    assert f" {six} fd00:5:0:1::/64 10.5.1.0/24 " in row(Table(160, [long]), long)


texts = st.text(max_size=50)
odd_peers = st.builds(
    Peer,
    texts,
    st.lists(texts, max_size=3).map(tuple),
    *[st.none() | st.floats(0, 1e21, exclude_max=True)] * 4,
    *[st.integers(0, 2**64 - 1)] * 2,
    st.none() | st.floats(0, 1e9),
)


@given(st.integers(20, 250), st.lists(odd_peers, max_size=3))
def test_every_row_is_as_wide_as_the_table(width: int, peers: list[Peer]) -> None:
    """Also of what no daemon of ours would say."""
    table = Table(width, peers)
    for one in peers:
        line = row(table, one)
        assert len(line) == width
        assert line.isprintable()
    assert Text(table.head(Column.PEER, False).plain).cell_len == width + 1
