"""The real flanneld as a program on a rig."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flannelette.benchmarks.cluster import Program
from flannelette.benchmarks.rig import Pod, Rig
from tests.helpers.lab import DEADLINE, Lab, lab
from tests.helpers.ns import until

BINARY = Path(__file__).parents[2] / "build" / "peers" / "flanneld"

needs_flanneld = pytest.mark.skipif(
    not BINARY.exists(),
    reason="no build/peers/flanneld: make peers builds it",
)


class Flanneld(Program):
    """flanneld on one host, in the cluster whose etcd is on host 1."""

    def __init__(self, rig: Rig, number: int, directory: Path, *flags: str) -> None:
        directory.mkdir(exist_ok=True)
        self.number = number
        self.log_file = directory / "log"
        self.subnet_file = directory / "subnet.env"
        self._rig = rig
        self._file_before = self._written()
        command = [
            str(BINARY),
            f"--etcd-endpoints=http://{rig.address(1)}:2379",
            "--iface=eth0",
            f"--subnet-file={self.subnet_file}",
            "--iptables-forward-rules=false",
            *flags,
        ]
        name = f"flanneld of host {number}"
        super().__init__(rig, rig.host(number), name, command, self.log_file)

    def is_ready(self) -> bool:
        """Has it written its subnet file? Raises RigError if it has died."""
        self.check()
        return self._written() not in (None, self._file_before)

    def _written(self) -> tuple[int, int] | None:
        """What tells a subnet file from one that was there before; None: none is."""
        try:
            found = self.subnet_file.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    @property
    def subnet(self) -> str | None:
        """Its subnet as a network; None until it is ready."""
        subnet = self._told("FLANNEL_SUBNET")
        return subnet and subnet.replace(".1/", ".0/")

    @property
    def subnet6(self) -> str | None:
        """The same of IPv6; None without dual stack as well."""
        subnet = self._told("FLANNEL_IPV6_SUBNET")
        return subnet and subnet.replace("::1/", "::/")

    def pod(self, most: int = 65535) -> Pod:
        """Put up its host's pod, with the MTU that it tells, at the most so much."""
        mtu = self._told("FLANNEL_MTU")
        assert self.subnet is not None
        assert mtu is not None
        mtu_used = min(int(mtu), most)
        return self._rig.pod(self.number, self.subnet, mtu_used, self.subnet6)

    def _told(self, name: str) -> str | None:
        """A line of its subnet file."""
        try:
            text = self.subnet_file.read_text()
        except FileNotFoundError:
            return None
        return dict(line.split("=", 1) for line in text.splitlines()).get(name)


def start_flanneld(it: Lab, number: int) -> Flanneld:
    """On a host of the lab, and ready."""
    flanneld = Flanneld(it.rig, number, it.directory / f"f{number}")
    until(flanneld.is_ready)
    return flanneld


def start_ours(it: Lab, number: int, *flags: str) -> None:
    """The daemon of a host of the lab, and ready."""
    it.cluster.start_daemon(number, *flags)
    until(lambda: it.is_ready(number))


@contextmanager
def beside_flanneld(
    directory: Path,
    hosts: int = 2,
    *,
    flags: Sequence[str] = (),
    pod_mtu: int = 65535,
    **options: Any,
) -> Iterator[tuple[Lab, Flanneld]]:
    """A lab on etcd with ours on host 1, flanneld on host 2, and a pod on each that
    reach each other. `flags` are ours; flanneld's pod has at the most pod_mtu;
    `options` are the lab's."""
    with lab(directory, hosts, store="etcd", **options) as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        start_ours(it, 1, *flags)
        flanneld = start_flanneld(it, 2)
        it.add_pod(1)
        it.pods[2] = flanneld.pod(pod_mtu)
        it.until_reaches(1, 2)
        yield it, flanneld
