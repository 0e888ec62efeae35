"""The lab's document: written and read again, or refused."""

from __future__ import annotations

import msgspec
import pytest

from flannelette.benchmarks.labdocument import DocumentError, dump, load
from tests.helpers import labsample


def test_round_trip() -> None:
    document = labsample.document()
    again = load(dump(document))
    assert dump(load(dump(again))) == dump(again)
    assert msgspec.structs.replace(again, ladder=document.ladder) == document
    figure = again.results().figure("nic", "thread", "tcp1")
    assert figure is not None
    assert figure == labsample.ladder().figure("nic", "thread", "tcp1")


def changed(**fields: object) -> bytes:
    whole = msgspec.json.decode(dump(labsample.document()))
    return msgspec.json.encode(whole | fields)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "Input data was truncated"),
        (b"{}", "missing required field `format`"),
        (changed(more=1), "unknown field `more`"),
        (changed(seconds="soon"), "Expected `float`, got `str`"),
        (changed(format=2), "a document of format 2, not 1"),
        (changed(ladder={}), "no results of flannelette bench"),
        (changed(ladder=None), "no results of flannelette bench"),
    ],
)
def test_what_is_no_document(text: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason) as caught:
        load(text)
    assert "\n" not in str(caught.value)


def test_every_byte_may_be_missing() -> None:
    text = dump(labsample.document()).rstrip()
    for end in range(0, len(text), 997):
        with pytest.raises(DocumentError):
            load(text[:end])
