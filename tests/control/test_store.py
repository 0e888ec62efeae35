"""What the stores share: how foreign entries are counted."""

from __future__ import annotations

import pytest

from flannelette.control.store import Contact, Skipped

ERROR = ValueError("because")


def test_an_outage_begins_with_its_first_moment_and_ends_with_the_next_word() -> None:
    now = 100.0
    contact = Contact(lambda: now)
    assert (contact.outage, contact.age) == (0.0, None)
    contact.heard()
    now = 130.0
    assert (contact.outage, contact.age) == (0.0, 30.0)
    contact.lost()
    now = 140.0
    contact.lost()
    assert (contact.outage, contact.age) == (10.0, 40.0)
    contact.heard()
    assert (contact.outage, contact.age) == (0.0, 0.0)


def test_an_entry_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """H1; a list and a watch see the same entry again and again."""
    skipped = Skipped()
    for _ in range(3):
        skipped.note("key", b"value", ERROR)
    assert skipped.count == 1
    skipped.note("key", b"other", ERROR)
    skipped.note("other", b"value", ERROR)
    assert skipped.count == 3
    assert caplog.text.count("skipped: no lease: key='key' error=because") == 2


def test_a_hostile_writer_gets_neither_our_memory_nor_our_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    skipped = Skipped()
    for number in range(3000):
        skipped.note("k" * 10_000, b"%d" % number, ValueError("e" * 10_000))
    assert skipped.count == 3000
    assert len(caplog.records) == 1000
    assert max(len(record.getMessage()) for record in caplog.records) < 400


def test_control_characters_stay_out_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Skipped().note("a\nb\x1b[2J", b"", ERROR)
    assert "a\\nb\\x1b[2J" in caplog.text
