"""The house rules that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "flannelette"

# Who may import whom. Everyone may import the standard library.
MAY_IMPORT = {
    "encap": {"encap"},
    "tun": {"tun"},
    "native": {"native"},
    "dataplane": {"dataplane", "encap", "native", "tun"},
    "control": {"control", "dataplane", "tun"},
    "benchmarks": {"benchmarks", "control", "dataplane", "encap", "native", "tun"},
}
MODULES = sorted(
    path.relative_to(ROOT)
    for folder in MAY_IMPORT
    for path in (ROOT / folder).rglob("*.py")
    if path != ROOT / "native" / "src" / "build.py"  # no module: it makes one
)


def imported(tree: ast.AST) -> set[str]:
    """Names of the modules that are imported: `from a import b` may mean a.b."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            if node.module == PACKAGE:
                names.update(f"{PACKAGE}.{alias.name}" for alias in node.names)
            else:
                names.add(node.module)
    return names


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_follow_the_house(module: Path) -> None:
    for name in imported(ast.parse((ROOT / module).read_text())):
        top, _, rest = name.partition(".")
        assert top not in MAY_IMPORT, f"import {PACKAGE}.{top}, not {top}"
        if top == PACKAGE:
            assert rest.partition(".")[0] in MAY_IMPORT[module.parts[0]]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_native_knows_cffi(module: Path) -> None:
    names = imported(ast.parse((ROOT / module).read_text()))
    assert not any(name.split(".")[0] == "cffi" for name in names)
    if module.parts[0] != "native":
        assert f"{PACKAGE}.native._fastpath" not in names


# What C other than the pumps may call: memory and sorting, and what compilers put in.
PURE_C = re.compile(
    r"malloc|calloc|realloc|aligned_alloc|madvise|free|qsort"
    r"|memcpy|memmove|memset|memcmp"
    r"|_GLOBAL_OFFSET_TABLE_|__stack_chk_(fail|guard)|__cpu_(model|indicator_init)"
    r"|__(atomic|aeabi)_\w+|__u?(div|mod)[sdt]i3"
)


def symbols(tmp_path: Path, sources: list[Path]) -> tuple[set[str], set[str]]:
    """What the compiled sources define for others, and what they want from others."""
    objects = [tmp_path / f"{path.stem}.o" for path in sources]
    for path, made in zip(sources, objects, strict=True):
        # Some compilers fortify unasked: __memcpy_chk for memcpy.
        flags = ["-std=gnu11", "-O2", "-U_FORTIFY_SOURCE"]
        subprocess.run(["cc", *flags, "-c", path, "-o", made], check=True)
    tables = [
        subprocess.run(
            ["nm", "--extern-only", "--portability", which, *map(str, objects)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for which in ("--defined-only", "--undefined-only")
    ]
    defined, wanted = (
        {line.split()[0] for line in table.splitlines() if not line.endswith(":")}
        for table in tables
    )
    return defined, wanted - defined


def test_pumps_alone_make_system_calls(tmp_path: Path) -> None:
    everything = sorted((ROOT / "native" / "src").glob("*.c"))
    pure = [path for path in everything if not path.name.startswith("pump")]
    assert len(pure) == len(everything) - 3
    defined, wanted = symbols(tmp_path, pure)
    assert "routes_find" in defined
    wanted.remove("clock_gettime")  # of stages.c, for timed rounds and for observers
    assert not [name for name in sorted(wanted) if not PURE_C.fullmatch(name)]
