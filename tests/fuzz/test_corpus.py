"""What libFuzzer found worth keeping goes through each target with every test run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SRC = HERE.parents[1] / "native" / "src"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What every target is linked with, compiled once."""
    made = tmp_path_factory.mktemp("objects")
    paths = [*sorted(SRC.glob("*.c")), HERE / "replay.c"]
    command = ["cc", "-std=gnu11", "-O1", "-c", *map(str, paths)]
    subprocess.run(command, check=True, cwd=made, env=plain())
    return [str(path) for path in made.iterdir()]


def plain() -> dict[str, str]:
    """The environment without a sanitizer that may be loaded into Python."""
    return {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}


@pytest.mark.parametrize("target", ["split", "merge", "wrap", "unwrap"])
def test_corpus(target: str, sources: list[str], tmp_path: Path) -> None:
    program = str(tmp_path / target)
    flags = ["-std=gnu11", "-O1", "-Wall", "-Werror"]
    command = ["cc", *flags, "-o", program, str(HERE / f"fuzz_{target}.c"), *sources]
    subprocess.run(command, check=True, env=plain())
    inputs = sorted(map(str, (HERE / "corpus" / target).iterdir()))
    assert len(inputs) > 50
    subprocess.run([program, *inputs], check=True, env=plain(), timeout=60)
