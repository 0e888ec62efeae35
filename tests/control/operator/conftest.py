"""What all tests of the operator socket start from."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The operator socket's; its directory is not there yet."""
    return tmp_path / "run" / "flannelette.sock"
