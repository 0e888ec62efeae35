"""What all tests of the command line start from."""

from __future__ import annotations

import os

import pytest

from flannelette.control.flags import ENVIRONMENT


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our variables of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT):
            monkeypatch.delenv(name)
