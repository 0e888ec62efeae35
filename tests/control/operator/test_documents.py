"""What a document may hold on its way through the operator socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flannelette.control.operator.client import ask
from flannelette.control.operator.server import serve


@pytest.mark.parametrize("text", ["/run/\udcff.sock", "\ud800", "a\nb"])
async def test_paths_that_are_no_utf_8(path: Path, text: str) -> None:
    """As Python has them: half of a surrogate pair for each odd byte."""
    async with serve(path, {"status": lambda: {"last_error": text}}):
        answer = await asyncio.to_thread(ask, path, "status")
    assert answer == {"last_error": text}
