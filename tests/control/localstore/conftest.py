"""What tests of the local store start from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flannelette.control import localstore
from flannelette.control.errors import NetworkConfigError
from flannelette.control.localstore import LocalStore
from tests.helpers.localrig import LocalRig


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests wait for a watch's next look; let it come soon."""
    monkeypatch.setattr(localstore, "POLL", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def rig(path: Path) -> LocalRig:
    """The file with its tables, as some store left it."""
    store = LocalStore(path)
    with pytest.raises(NetworkConfigError):
        await store.network_config()
    await store.close()
    return LocalRig(path)


@pytest.fixture
async def store(rig: LocalRig) -> AsyncIterator[LocalStore]:
    store = LocalStore(rig.path, busy_timeout=0.1)
    yield store
    await store.close()
