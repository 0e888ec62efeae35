"""What tests of the static store start from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flannelette.control import staticstore
from flannelette.control.staticstore import StaticStore
from tests.helpers.staticfiles import GOOD, Write


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a watch's next look come soon."""
    monkeypatch.setattr(staticstore, "POLL", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "peers.toml"
    path.write_text(GOOD)
    return path


@pytest.fixture
async def store(path: Path) -> AsyncIterator[StaticStore]:
    store = StaticStore(path)
    yield store
    await store.close()


@pytest.fixture
def write(path: Path) -> Write:
    """Rewrites the file in place."""

    def write(content: str) -> None:
        path.write_text(content)

    return write
