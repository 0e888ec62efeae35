"""What tests of observers and their daemon start from."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The operator socket's."""
    return tmp_path / "o.sock"
