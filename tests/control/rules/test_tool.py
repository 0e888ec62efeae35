"""Running the programs that speak with the kernel's firewall."""

from __future__ import annotations

import asyncio

import pytest

from flannelette.control.rules import tool


def test_a_program_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed, be it late or we in a hurry; conftest looks for what is left."""
    monkeypatch.setattr(tool, "DEADLINE", 0.1)
    with pytest.raises(tool.RulesBusy, match="sleep did not end"):
        asyncio.run(tool.run(["sleep", "1000"]))
    monkeypatch.setattr(tool, "DEADLINE", 1000)

    async def hurry() -> asyncio.Task[str]:
        running = asyncio.create_task(tool.run(["sleep", "1000"]))
        await asyncio.wait([running], timeout=0.1)
        running.cancel()
        await asyncio.wait([running])
        return running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(hurry()).result()
    with pytest.raises(FileNotFoundError) as caught:
        asyncio.run(tool.run(["/nonexistent/nft"]))
    assert caught.value.__notes__ == ["while starting /nonexistent/nft"]
