"""A library that is not there is one line that says how to get it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from flannelette.control.errors import HostError
from flannelette.control.observe.extras import need


def test_what_is_there_is_imported() -> None:
    assert need("json", "top") is json


def test_what_is_not_there_is_one_line() -> None:
    with pytest.raises(HostError) as caught:
        need("no_such_library.inner", "top")
    assert str(caught.value) == (
        "top needs no_such_library: pip install 'flannelette[tools]'"
    )
    assert caught.value.exit_code == 1


def test_a_broken_library_is_not_to_be_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is there, but lacks something itself, or is no good."""
    (tmp_path / "lacks_another.py").write_text("import no_such_library\n")
    (tmp_path / "is_bad.py").write_text("raise ImportError('too old')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name, why in (
        ("lacks_another", "No module named 'no_such_library'"),
        ("is_bad", "too old"),
    ):
        with pytest.raises(HostError) as caught:
            need(name, "trace")
        assert str(caught.value) == (
            f"trace needs {name}, which cannot be imported here: {why}"
        )
