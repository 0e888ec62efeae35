"""JSON as Go reads it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from flannelette.control.gojson import GoJSONError, fold, loads_object

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
json_values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "null", "[]", '"x"', "5", "{} {}", "{'a': 1}", '{"a": 1,}'),
        *('{"a": NaN}', '{"a": Infinity}', '{"a": [-Infinity]}', '{"a": 01}'),
        *('{"a": "\n"}', "[" * 100_000, '{"a":' * 100_000, '{"a": ' + "1" * 5000 + "}"),
        "\ufeff{}",
        "{}".encode("utf-16"),
        "{}".encode("utf-32-le"),
        b"\xff{}",
    ],
)
def test_what_is_no_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(GoJSONError):
        loads_object(text)


@given(st.one_of(st.text(), st.binary()))
@example(b'{"\xff": "\xc3"}')
def test_any_text_is_an_object_or_one_error(text: str | bytes) -> None:
    with suppress(GoJSONError):
        assert isinstance(loads_object(text), dict)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=5))
def test_all_that_python_writes_is_read_back(members: dict[str, Any]) -> None:
    text = json.dumps(members)
    assert loads_object(text) == loads_object(text.encode()) == members


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert loads_object(b'{"a": "x\xffy"}') == {"a": "x\ufffdy"}


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ('{"network": 1, "SUBNETLEN": 2}', {"Network": 1, "SubnetLen": 2}),
        ('{"Network": 1, "Stranger": 2}', {"Network": 1}),
        ('{"Network": 1, "network": 2}', {"Network": 2}),
        ('{"network": 2, "Network": 1}', {"Network": 1}),
        ('{"Network": 1, "network": 2, "Network": 3}', {"Network": 3}),
        ('{"Network": null}', {}),
        ('{"Network": 1, "network": null}', {"Network": 1}),
        ('{"Network": false}', {"Network": False}),
        ('{"\u017fubnetLen": 5}', {"SubnetLen": 5}),  # Go folds the long s too
    ],
)
def test_fold(text: str, folded: dict[str, Any]) -> None:
    """Section 1.2: any case, the last one wins, null is absent, strangers ignored."""
    assert fold(loads_object(text), ["Network", "SubnetLen"]) == folded
