"""The house rules that no linter knows."""

from __future__ import annotations

import ast
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
    for path in (ROOT / folder).glob("*.py")
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


def test_pumps_alone_make_system_calls() -> None:
    calls = ("read(", "write(", "sendmmsg(", "recvmmsg(", "poll(", "clock_gettime(")
    for path in sorted((ROOT / "native" / "src").glob("*.c")):
        if path.name != "pump.c":
            words = path.read_text().replace("(", "( ").split()
            assert not set(calls) & set(words), path.name
