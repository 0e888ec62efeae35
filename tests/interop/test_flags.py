"""flanneld's own usage: its flags and their defaults are ours."""

from __future__ import annotations

import re
import subprocess

from tests.helpers.flagtable import FLANNELDS
from tests.interop.flanneld import BINARY, needs_flanneld

pytestmark = needs_flanneld

_ENTRY = re.compile(r"^  -(\S+)( \w+)?\n    \t(.*)$", re.MULTILINE)
"""As Go's flag package prints them: a boolean has no kind of value."""
_DEFAULT = re.compile(r'\(default "?(.*?)"?\)$')
_ZEROS = {None: "false", "int": "0"}


def test_flags_and_defaults_are_flannelds() -> None:
    done = subprocess.run([BINARY, "--help"], text=True, capture_output=True)
    theirs = {}
    for name, kind, text in _ENTRY.findall(done.stderr):
        default = _DEFAULT.search(text)
        zero = _ZEROS.get(kind.strip() or None, "")
        theirs[name] = default[1] if default else zero
    # The level has a kind of its own, whose zero is not printed.
    assert theirs.pop("v") == ""
    ours = {row.flag: row.default for row in FLANNELDS if row.flag != "v"}
    assert theirs == ours
