"""Dual-stack leases and subnet.env are what flanneld reads and writes, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.etcd import require_etcd
from tests.helpers.ns import ROOT, needs_namespaces
from tests.interop.flanneld import needs_flanneld

require_etcd()
pytestmark = [needs_namespaces, needs_flanneld]


def test_dual_stack_leases_with_flanneld(tmp_path: Path) -> None:
    """In a process of its own, since gRPC's threads stay in their first namespace."""
    command = [sys.executable, "-m", "tests.interop.dualleases", str(tmp_path)]
    done = subprocess.run(
        ["unshare", "--net", "setpriv", "--pdeathsig", "KILL", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "they agree" in done.stdout
