"""probe.c and encap/probe.py are twins: any bytes, the same answer."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from flannelette.encap import probe
from tests.helpers.probes import answer as reply_of

SRC = Path(__file__).parents[2] / "native" / "src"


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Any:
    library = tmp_path_factory.mktemp("probes") / "probe.so"
    flags = ["-std=gnu11", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    plain = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    command = ["cc", *flags, "-o", str(library), str(SRC / "probe.c")]
    subprocess.run(command, check=True, env=plain)
    loaded = ctypes.CDLL(str(library))
    loaded.probe_answer.restype = ctypes.c_bool
    return loaded


def answer(lib: Any, datagram: bytes, known: bool) -> bytes | None:
    """What C writes, which touches no byte behind its room."""
    room = ctypes.create_string_buffer(b"\xa5" * 40, 40)
    length, told = ctypes.c_uint32(len(datagram)), ctypes.c_bool(known)
    written = lib.probe_answer(datagram, length, told, room)
    assert room.raw[probe.BYTES :] == b"\xa5" * 12
    if written:
        return room.raw[: probe.BYTES]
    assert room.raw == b"\xa5" * 40
    return None


nonces = st.binary(min_size=probe.NONCE, max_size=probe.NONCE)
lengths = st.one_of(st.integers(probe.BYTES, 64), st.integers(probe.BYTES, 65507))
probes = st.one_of(
    st.builds(probe.request, nonces, lengths),
    st.builds(probe.reply, nonces, st.integers(0, 65535), st.booleans()),
)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A probe with another byte somewhere in its head, or cut, or longer."""
    data = bytearray(draw(probes))
    data[draw(st.integers(0, probe.BYTES - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=4))


@given(st.one_of(st.binary(max_size=64), probes, changed()), st.booleans())
def test_twins_answer_alike(lib: Any, datagram: bytes, known: bool) -> None:
    assert answer(lib, datagram, known) == reply_of(datagram, known)


@given(st.builds(probe.request, nonces, lengths), st.booleans())
def test_a_request_is_answered(lib: Any, datagram: bytes, known: bool) -> None:
    told = answer(lib, datagram, known)
    assert told is not None
    assert probe.parse(told).length == len(datagram)
