"""What bench and lab share; how they end is in their own tests."""

from __future__ import annotations

from pathlib import Path

from flannelette.benchmarks.command import check_writable


def test_the_trial_of_a_file_leaves_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    check_writable(file)
    assert not file.exists()
    file.write_text("results")
    check_writable(file)
    assert file.read_text() == "results"
