"""Choices for composite strategies, each made once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


def among(*values: T) -> st.SearchStrategy[T]:
    """One of the values. In a composite strategy st.sampled_from would be made anew for
    each draw, which takes longer than to draw from it."""
    return _made(*values)


@lru_cache(maxsize=None, typed=True)
def _made(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)
