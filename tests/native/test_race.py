"""Routes and observers come and go without a race, says ThreadSanitizer.

It sees what the processor at hand would forgive. That it would see a mistake is tested,
too: with the line that each mistake changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FLAGS = ["-std=gnu11", "-O0", "-fsanitize=thread", "-w", "-pthread"]


def plain() -> dict[str, str]:
    """The environment without a sanitizer that may be loaded into Python."""
    return {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One that has ThreadSanitizer, and a processor where it runs."""
    place = tmp_path_factory.mktemp("tsan")
    (place / "none.c").write_text("int main(void) { return 0; }\n")
    for name in filter(shutil.which, ("cc", "clang", "clang-14")):
        command = [name, *FLAGS, "-o", str(place / "none"), str(place / "none.c")]
        if subprocess.run(command, capture_output=True, env=plain()).returncode:
            continue
        if run(place / "none").returncode == 0:
            return name
    pytest.skip("no compiler here has ThreadSanitizer")


def build(compiler: str, root: Path) -> Path:
    """The program over the sources below root."""
    program = root / "race"
    include = root / "native" / "src"
    sources = [*sorted(include.glob("*.c")), HERE / "race.c"]
    command = [compiler, *FLAGS, f"-I{include}", "-o", str(program), *map(str, sources)]
    subprocess.run(command, check=True, env=plain())
    return program


def run(program: Path) -> subprocess.CompletedProcess[str]:
    # ThreadSanitizer of gcc 12 cannot place its shadow where addresses are too random.
    command = ["setarch", "--addr-no-randomize", str(program)]
    # After its first race a program may do anything, and never end.
    env = plain() | {"TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)


def copy_of_sources(to: Path) -> Path:
    shutil.copytree(ROOT / "native" / "src", to / "native" / "src")
    return to / "native" / "src"


def test_routes_and_observers_come_and_go_without_a_race(
    compiler: str, tmp_path: Path
) -> None:
    copy_of_sources(tmp_path)
    done = run(build(compiler, tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("file", "line", "mistake"),
    [
        ("routes.c", "if (out_of_sight(fp, &routes->sections)) {", "if (1) {"),
        ("watch.c", "if (out_of_sight(fp, &watch->sections)) {", "if (1) {"),
        (
            "watch.c",
            "written + event->size, memory_order_release);",
            "written + event->size, memory_order_relaxed);",
        ),
        (
            "fastpath.h",
            "atomic_fetch_add_explicit(&pump->section, 1, memory_order_release);",
            "atomic_fetch_add_explicit(&pump->section, 1, memory_order_relaxed);",
        ),
        ("fastpath.h", "    atomic_fetch_add(&pump->section, 1);\n", ""),
    ],
    ids=[
        "freed at once",
        "observer freed at once",
        "told without release",
        "left without release",
        "never entered",
    ],
)
def test_a_mistake_is_seen(
    compiler: str, tmp_path: Path, file: str, line: str, mistake: str
) -> None:
    source = copy_of_sources(tmp_path) / file
    text = source.read_text()
    assert text.count(line) == 1
    source.write_text(text.replace(line, mistake))
    done = run(build(compiler, tmp_path))
    assert done.returncode != 0
    # A race, or what was freed and is no memory any more.
    assert "ThreadSanitizer: " in done.stderr
