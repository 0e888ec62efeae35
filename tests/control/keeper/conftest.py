"""What tests of the lease's keeper start from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flannelette.control import keeper as module
from flannelette.control.lease import Lease
from tests.helpers.keepers import CONFIG, US, Flaky


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Flaky]:
    store = Flaky(tmp_path / "store.sqlite")
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the lease and asks the store again at once."""
    monkeypatch.setattr(module, "LOOK", 0.01)
    monkeypatch.setattr(module, "RETRY_FIRST", 0.01)


@pytest.fixture
async def lease(store: Flaky) -> Lease:
    return await store.acquire(US, CONFIG, None)
