"""encap.drop and native/src/api.h name the same drops in the same order."""

from __future__ import annotations

import re
from pathlib import Path

from flannelette.encap.drop import Drop
from flannelette.native._fastpath import lib

HEADER = Path(__file__).parents[2] / "native" / "src" / "api.h"


def test_c_has_the_same_names() -> None:
    text = re.search(r"enum fp_drop \{(.*?)\}", HEADER.read_text(), re.DOTALL)
    assert text is not None
    names = [name.strip() for name in text[1].split(",")]
    assert names == [f"FP_{drop.name}" for drop in Drop]
    assert len(Drop) == lib.FP_DROPS
