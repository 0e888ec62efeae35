"""Filters of observers: ours takes the packets that libpcap's takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given, settings, strategies as st

from flannelette.native.api import Direction, EventKind, Frame, PathConfig, Watch
from flannelette.native.fastpath import FastPath
from tests.helpers import pcap
from tests.helpers.packets import MTU, TUN_ADDRESS, likely_packets
from tests.helpers.pcap import Instruction

CONFIG = PathConfig(-1, -1, -1, mtu=MTU, address=int(TUN_ADDRESS))
WORDS = (0, 1, 2, 4, 31, 32, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
RETURN = (6, 0, 0, 1)


@contextmanager
def path() -> Iterator[FastPath]:
    made = FastPath(CONFIG)
    try:
        yield made
    finally:
        made.close()


def takes(path: FastPath, program: Sequence[Instruction], data: bytes) -> bool:
    """Is an observer told of this packet?"""
    path.watch(Watch(tuple(program), kinds=1 << EventKind.READ))
    try:
        path.wrap_frames([Frame(data)], 0)
        told, lost = path.watched(Direction.TX)
        assert lost == 0
        return bool(told)
    finally:
        path.unwatch()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "icmp",
        "udp port 53",
        "tcp and src host 10.5.1.2 and dst net 10.5.0.0/16",
        "ip6 or tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "not port 22 and greater 60",
        "ip[8] * 3 / 2 > 10 and ip[2:2] % 7 != 3",
        "ip proto 17 and ip[6:2] & 0x1fff = 0",
    ],
)
@given(data=st.one_of(likely_packets(), st.binary(max_size=90)))
def test_what_tcpdump_would_compile(text: str, data: bytes) -> None:
    program = pcap.compiled(text)
    with path() as it:
        assert takes(it, program, data) == pcap.takes(program, data)


instructions = st.tuples(
    st.integers(0, 0xFF),
    st.integers(0, 4),
    st.integers(0, 4),
    st.one_of(st.integers(0, 40), st.sampled_from(WORDS)),
)


@settings(max_examples=1000)
@given(
    body=st.lists(instructions, max_size=8),
    end=st.sampled_from([RETURN, (0x16, 0, 0, 0)]),
    data=st.binary(max_size=60),
)
def test_any_program(body: list[Instruction], end: Instruction, data: bytes) -> None:
    program = [*body, end]
    with path() as it:
        try:
            taken = takes(it, program, data)
        except OSError:  # it is refused: of what may be, other tests tell
            return
        assert pcap.valid(program)
        assert taken == pcap.takes(program, data)


@pytest.mark.parametrize("k", [0, 15])
@pytest.mark.parametrize("code", sorted({0x02, 0x03, 0x60, 0x61}))
def test_memory(code: int, k: int) -> None:
    with path() as it:
        assert takes(it, [(code, 0, 0, k), RETURN], b"")


@pytest.mark.parametrize(
    "program",
    [
        [(0x00, 0, 0, 1)],  # no end
        [(0x05, 0, 0, 0)],  # a jump behind the end
        [(0x05, 0, 0, 0xFFFFFFFF), RETURN],
        [(0x15, 1, 0, 0), RETURN],
        [(0x15, 0, 1, 0), RETURN],
        [(0x34, 0, 0, 0), RETURN],  # division by zero
        [(0x94, 0, 0, 0), RETURN],
        [(0x64, 0, 0, 32), RETURN],  # a shift by all bits
        [(0x74, 0, 0, 32), RETURN],
        [(0x60, 0, 0, 16), RETURN],  # memory that there is not
        [(0x61, 0, 0, 16), RETURN],
        [(0x02, 0, 0, 16), RETURN],
        [(0x03, 0, 0, 16), RETURN],
        [(0x18, 0, 0, 0), RETURN],  # no such size, mode, operation
        [(0xE0, 0, 0, 0), RETURN],
        [(0xB4, 0, 0, 1), RETURN],
        [(0x55, 0, 0, 1), RETURN],
        [(0x0E, 0, 0, 1)],
        [(0x100, 0, 0, 1), RETURN],
        [RETURN] * 4097,
    ],
)
def test_refused(program: list[Instruction]) -> None:
    with path() as it, pytest.raises(OSError, match="Invalid argument"):
        it.watch(Watch(tuple(program)))


@pytest.mark.parametrize(
    ("program", "taken"),
    [
        ([(0x20, 0, 0, 17), RETURN], False),  # beyond the packet
        ([(0x20, 0, 0, 16), RETURN], True),
        ([(0x01, 0, 0, 0xFFFFFFFF), (0x50, 0, 0, 1), RETURN], False),
        ([(0xB1, 0, 0, 20), RETURN], False),
        ([(0x00, 0, 0, 5), (0x3C, 0, 0, 0), RETURN], False),  # division by X, zero
        ([(0x00, 0, 0, 1), (0x01, 0, 0, 32), (0x6C, 0, 0, 0), (0x16, 0, 0, 0)], False),
    ],
)
def test_what_ends_with_no(program: list[Instruction], taken: bool) -> None:
    with path() as it:
        assert takes(it, program, bytes(20)) == taken
