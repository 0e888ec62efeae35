"""The table of flags: flanneld's names and defaults (flannel-behaviour.md 4.1)."""

from __future__ import annotations

from flannelette.control.flags import FLAGS, GROUPS, usage


def test_the_usage_has_every_flag_in_its_group() -> None:
    lines = usage().splitlines()
    assert max(map(len, lines)) <= 80
    listed = [line.split()[0] for line in lines if line.startswith("  --")]
    assert listed == [f"--{flag.name}" for flag in FLAGS]
    assert [line for line in lines if line.endswith(":")] == [f"{it}:" for it in GROUPS]
