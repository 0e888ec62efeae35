"""Memory that a daemon may be killed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from flannelette.control.handover.document import HandoverError
from flannelette.control.handover.memory import Memory


@pytest.fixture
def memory() -> Iterator[Memory]:
    it = Memory.new()
    yield it
    it.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=9))
def test_the_last_text_is_read(memory: Memory, texts: list[bytes]) -> None:
    for text in texts:
        memory.write(text)
        assert Memory(memory.fd).read() == text
    assert os.fstat(memory.fd).st_size < 20 + 3 * 301, "it does not grow for ever"


def test_nothing_was_written(memory: Memory) -> None:
    with pytest.raises(HandoverError):
        memory.read()


def test_killed_while_it_writes(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever piece was the last to be written: the text before counts."""
    write, room = os.pwrite, 0

    def dying(fd: int, data: bytes, place: int) -> int:
        nonlocal room
        done = min(len(data), room)
        room -= done
        if done < len(data) and place == 0:  # the head is one piece, or none
            raise KeyboardInterrupt
        write(fd, data[:done], place)
        if done < len(data):
            raise KeyboardInterrupt
        return done

    last = b""
    for text in (b"a" * 50, b"b" * 40, b"c" * 60, b"d" * 90, b"e" * 10):
        for size in range(len(text) + 20):
            room = size
            monkeypatch.setattr(os, "pwrite", dying)
            with pytest.raises(KeyboardInterrupt):
                memory.write(text)
            monkeypatch.undo()
            if last:
                assert memory.read() == last
        memory.write(text)
        last = text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=20, max_size=60))
def test_any_head(memory: Memory, garbage: bytes) -> None:
    memory.write(b"text")
    os.pwrite(memory.fd, garbage, 0)
    with suppress(HandoverError):
        assert memory.read() == b"", "a head of zeroes tells of an empty text"


def test_another_text(memory: Memory) -> None:
    memory.write(b"text")
    os.pwrite(memory.fd, b"u", 21)
    with pytest.raises(HandoverError):
        memory.read()
