"""The checksum's bodies are twins, and right: any bytes, any length, any alignment."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

HERE = Path(__file__).parent
BLOCK = 32
LONGEST = 70_000
LIMIT = 1 << 20
"""Bytes that checksum_sum promises to sum at once."""


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Any:
    library = tmp_path_factory.mktemp("checksums") / "checksums.so"
    flags = ["-std=gnu11", "-O2", "-shared", "-fPIC", "-Wall", "-Werror"]
    plain = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    command = ["cc", *flags, "-o", str(library), str(HERE / "checksums.c")]
    subprocess.run(command, check=True, env=plain)
    loaded = ctypes.CDLL(str(library))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    for name, arguments, result in (
        ("checksum_sum", [pointer, size], ctypes.c_uint32),
        ("checksum_copy", [pointer, pointer, size], ctypes.c_uint32),
        ("portable", [pointer, pointer, size], ctypes.c_uint64),
        ("best", [pointer, pointer, size], ctypes.c_uint64),
    ):
        getattr(loaded, name).argtypes = arguments
        getattr(loaded, name).restype = result
    return loaded


def one_complement(data: bytes) -> int:
    """The sum in one line: 0x10000 is 1, and only nothing but zeros sums to 0."""
    return int.from_bytes(data + bytes(len(data) % 2)) % 0xFFFF or 0xFFFF * any(data)


class Placed:
    """Data so many bytes behind a 64-byte boundary, between bytes that are not its."""

    def __init__(self, data: bytes, offset: int, margin: bytes = b"\xa5") -> None:
        self._room = ctypes.create_string_buffer(margin * (len(data) + 256))
        start = ctypes.addressof(self._room)
        self.address = start + 64 + -start % 64 + offset
        self._length = len(data)
        ctypes.memmove(self.address, data, len(data))

    def around(self) -> bytes:
        """The data between its margins, as they are now."""
        return ctypes.string_at(self.address - 64, self._length + 128)


# Few seeds make long data; what matters is how long, where, and which words carry.
contents = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda pattern, length: (pattern * (length // len(pattern) + 1))[:length],
        st.one_of(
            st.sampled_from([b"\0", b"\xff", b"\x80\0", b"\x7f\xff", b"\0\x80"]),
            st.binary(min_size=1, max_size=67),
        ),
        st.one_of(st.integers(0, 300), st.integers(0, LONGEST)),
    ),
)
offsets = st.integers(0, 63)


@settings(max_examples=500, deadline=None)
@given(contents, offsets, offsets)
@example(b"\xff" * LONGEST, 1, 0)
@example(bytes(LONGEST), 31, 63)
def test_twins(lib: Any, data: bytes, at: int, to: int) -> None:
    source, length = Placed(data, at), len(data)
    assert lib.checksum_sum(source.address, length) == one_complement(data)
    copy = Placed(bytes(length), to, b"\x5a")
    assert lib.checksum_copy(copy.address, source.address, length) == (
        one_complement(data)
    )
    assert copy.around() == b"\x5a" * 64 + data + b"\x5a" * 64
    assert source.around() == b"\xa5" * 64 + data + b"\xa5" * 64


@settings(max_examples=500, deadline=None)
@given(contents, offsets, offsets)
@example(b"\xff" * LONGEST, 1, 0)
def test_bodies(lib: Any, data: bytes, at: int, to: int) -> None:
    """Where the processor has nothing better than the portable one, they are one."""
    blocks = len(data) // BLOCK
    data = data[: blocks * BLOCK]
    source = Placed(data, at)
    for body in (lib.portable, lib.best):
        copy = Placed(bytes(len(data)), to, b"\x5a")
        total = body(copy.address, source.address, blocks)
        assert body(None, source.address, blocks) == total
        assert copy.around() == b"\x5a" * 64 + data + b"\x5a" * 64
        assert one_complement(total.to_bytes(8, sys.byteorder)) == one_complement(data)


@pytest.mark.parametrize("word", [b"\0\0", b"\0\x80", b"\xff\x7f", b"\xff\xff"])
def test_no_lane_overflows_within_the_limit(lib: Any, word: bytes) -> None:
    """The words that are the least and the most to whoever takes them as signed."""
    data = word * (LIMIT // 2)
    placed = Placed(data, 0)
    assert lib.checksum_sum(placed.address, LIMIT) == one_complement(data)


def test_every_short_length(lib: Any) -> None:
    data = bytes(range(1, 256)) * 3
    for length in range(600):
        placed = Placed(data[:length], length % 64)
        assert lib.checksum_sum(placed.address, length) == one_complement(data[:length])
