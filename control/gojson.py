"""JSON as Go's encoding/json reads it.

Member names match in any case, the last duplicate wins, null leaves the default, and
unknown members are ignored. flannel's users have come to rely on each of these. The
text is UTF-8, whatever its first bytes look like, and bytes that are not UTF-8 become
U+FFFD. NaN and Infinity are no JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any


class GoJSONError(ValueError):
    """The text is not a JSON object."""


def loads_object(text: bytes | str) -> dict[str, Any]:
    """Parse one JSON object. Raises GoJSONError, and nothing else."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise GoJSONError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise GoJSONError("not a JSON object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict in the order of each name's last occurrence: fold() depends on it."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        members.pop(name, None)
        members[name] = value
    return members


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse)


def fold(members: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Spell members as in names, whatever their case; drop nulls and strangers."""
    known = _spellings(tuple(names))
    folded: dict[str, Any] = {}
    for name, value in members.items():
        spelling = known.get(name.casefold())
        if spelling is not None and value is not None:
            folded[spelling] = value
    return folded


@cache
def _spellings(names: tuple[str, ...]) -> dict[str, str]:
    return {name.casefold(): name for name in names}
