"""The real flanneld as a program on a rig."""

from __future__ import annotations

from pathlib import Path

import pytest

from flannelette.benchmarks.cluster import Program
from flannelette.benchmarks.rig import Rig

BINARY = Path(__file__).parents[2] / "build" / "peers" / "flanneld"

needs_flanneld = pytest.mark.skipif(
    not BINARY.exists(),
    reason="no build/peers/flanneld: make peers builds it",
)


class Flanneld(Program):
    """flanneld on one host, in the cluster whose etcd is on host 1."""

    def __init__(self, rig: Rig, number: int, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.number = number
        self.log_file = directory / "log"
        self.subnet_file = directory / "subnet.env"
        command = [
            str(BINARY),
            f"--etcd-endpoints=http://{rig.address(1)}:2379",
            "--iface=eth0",
            f"--subnet-file={self.subnet_file}",
            "--iptables-forward-rules=false",
        ]
        name = f"flanneld of host {number}"
        super().__init__(rig, rig.host(number), name, command, self.log_file)

    def is_ready(self) -> bool:
        """Has it written its subnet file? Raises RigError if it has died."""
        self.check()
        return self.subnet is not None

    @property
    def subnet(self) -> str | None:
        """Its subnet as a network; None until it is ready."""
        try:
            text = self.subnet_file.read_text()
        except FileNotFoundError:
            return None
        lines = dict(line.split("=", 1) for line in text.splitlines())
        return lines["FLANNEL_SUBNET"].replace(".1/", ".0/")
