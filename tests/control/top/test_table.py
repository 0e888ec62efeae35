"""The table of peers."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from rich.text import Text

from flannelette.control import statusdocument
from flannelette.control.top import model
from flannelette.control.top.model import Column, Peer
from flannelette.control.top.table import Table
from tests.helpers.statusdocuments import document, peer


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
