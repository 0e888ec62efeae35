"""JSON as Go's encoding/json reads it.

Member names match in any case, the last duplicate wins, null leaves the default, and
unknown members are ignored. flannel's users have come to rely on each of these.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


class GoJSONError(ValueError):
    """The text is not a JSON object."""


def loads_object(text: bytes | str) -> dict[str, Any]:
    """Parse one JSON object. Raises GoJSONError, and nothing else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GoJSONError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise GoJSONError("not a JSON object")
    return value


def fold(members: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Spell members as in names, whatever their case; drop nulls and strangers."""
    known = {name.casefold(): name for name in names}
    folded: dict[str, Any] = {}
    for name, value in members.items():
        spelling = known.get(name.casefold())
        if spelling is not None and value is not None:
            folded[spelling] = value
    return folded
