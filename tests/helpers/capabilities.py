"""The rights of threads, as the kernel shows them (capabilities(7), proc(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NET_ADMIN, NET_RAW = 1 << 12, 1 << 13


@dataclass(frozen=True, slots=True)
class Rights:
    """Sets of capabilities as bits."""

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int
    no_new_privs: bool

    @classmethod
    def only(cls, mask: int) -> Rights:
        """These in every set, and no way to others."""
        return cls(mask, mask, mask, mask, mask, True)

    @classmethod
    def parse(cls, status: str) -> Rights:
        """Of /proc/PID/task/TID/status."""
        found = re.findall(r"^Cap...:\t([0-9a-f]{16})$", status, re.MULTILINE)
        inheritable, permitted, effective, bounding, ambient = (
            int(each, 16) for each in found
        )
        no_new_privs = "\nNoNewPrivs:\t1\n" in status
        return cls(inheritable, permitted, effective, bounding, ambient, no_new_privs)


def rights(pid: int | str = "self") -> dict[str, Rights]:
    """Of each thread, by its name and id."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        found[f"{(task / 'comm').read_text().strip()} {task.name}"] = Rights.parse(
            status
        )
    return found
