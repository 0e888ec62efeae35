"""What tshark makes of a capture."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

needs_tshark = pytest.mark.skipif(
    shutil.which("tshark") is None, reason="needs tshark (Debian: tshark)"
)


def dissect(source: Path | bytes, *fields: str, decode: str = "") -> list[list[str]]:
    """The fields of each packet, outermost first where a packet has one twice. The
    source is a file, or what is piped; `decode` is a -d option's value."""
    command = ["tshark", "-n", "-T", "fields", "-r"]
    command.append(str(source) if isinstance(source, Path) else "-")
    for field in fields:
        command += ["-e", field]
    if decode:
        command += ["-d", decode]
    piped = source if isinstance(source, bytes) else None
    done = subprocess.run(command, input=piped, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return [line.split("\t") for line in done.stdout.decode().splitlines()]
