"""The stub says of the extension what is true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from flannelette.native._fastpath import lib

NATIVE = Path(__file__).parents[2] / "native"


def members(of_class: str) -> set[str]:
    tree = ast.parse((NATIVE / "_fastpath.pyi").read_text())
    (body,) = (
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == of_class
    )
    names = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    return names | {ast.unparse(n.target) for n in body if isinstance(n, ast.AnnAssign)}


def test_every_function_is_in_the_stub() -> None:
    enumerators = {
        name
        for text in re.findall(
            r"enum \w+ \{(.*?)\}", (NATIVE / "src/api.h").read_text(), re.DOTALL
        )
        for name in re.findall(r"FP_\w+", text)
    }
    assert set(dir(lib)) - enumerators == members("Lib")
