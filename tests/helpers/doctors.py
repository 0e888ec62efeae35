"""`flannelette doctor` on a host of a lab: what it finds, and its cures taken."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flannelette.benchmarks.cluster import FLANNELETTE
from flannelette.control.text import WIDTH
from tests.helpers.lab import Lab

Finding = dict[str, Any]

WITH_OURS = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
}
"""An environment in which `flannelette` is found."""


@dataclass(frozen=True)
class Doctor:
    """Examines host `number`, by its daemon's own settings or with flags."""

    it: Lab
    number: int = 1

    def examine(self, *flags: str) -> dict[str, Any]:
        """The whole document."""
        done = self._run("--json", *flags)
        document: dict[str, Any] = json.loads(done)
        return document

    def findings(self, *flags: str) -> list[Finding]:
        found: list[Finding] = self.examine(*flags)["findings"]
        return found

    def names(self, *flags: str) -> list[str]:
        """What it finds, worst first."""
        return [finding["check"] for finding in self.findings(*flags)]

    def only(self, check: str, *flags: str) -> Finding:
        """The one finding that there is."""
        findings = self.findings(*flags)
        assert [finding["check"] for finding in findings] == [check], findings
        return findings[0]

    def text(self, *flags: str) -> str:
        """What a person reads, in 80 columns."""
        text = self._run(*flags)
        assert max(map(len, text.splitlines())) <= WIDTH, text
        return text

    def cure(self, finding: Finding) -> None:
        """Run the command that it names, where it says."""
        on, rig = finding["cure"]["on"], self.it.rig
        number = self.number
        if on is not None:
            (number,) = (n for n in rig.numbers if str(rig.address(n)) == on)
        command = ["sh", "-c", finding["cure"]["command"]]
        rig.run(rig.host(number), command, env=WITH_OURS)

    def _run(self, *flags: str) -> str:
        where = f"--operator-socket={self.socket}"
        command = [*FLANNELETTE, "doctor", where, *flags]
        done = self.it.rig.run(self.it.rig.host(self.number), command, check=False)
        assert done.stderr == ""
        healthy = '"findings": [],' in done.stdout or "Nothing is wrong" in done.stdout
        assert done.returncode == (0 if healthy else 1)
        return done.stdout

    @property
    def socket(self) -> str:
        return str(self.it.directory / f"h{self.number}" / "flannelette.sock")
