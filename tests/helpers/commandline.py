"""Our commands run as programs, and what they say when something is wrong."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

Capture = pytest.CaptureFixture[str]


def run_program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flannelette.control", *arguments],
        text=True,
        timeout=30,
        **options,
    )


def assert_only_one_line(capsys: Capture, *parts: str) -> None:
    """All that was said is one line on stderr, with these parts."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flannelette: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for part in parts:
        assert part in err
