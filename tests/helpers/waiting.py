"""Waiting, in a coroutine, for what nobody tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

_PAUSE = 0.01


async def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until the condition holds; fail the test when it never does."""
    for _ in range(int(seconds / _PAUSE)):
        if condition():
            return
        await asyncio.sleep(_PAUSE)
    pytest.fail(f"not so after {seconds} s: {condition}")
