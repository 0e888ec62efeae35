"""The unit file that we offer, as far as can be seen without starting it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flannelette.control.dockeropts import main as docker_opts
from flannelette.dataplane.forwarder import MAX_QUEUES
from flannelette.dataplane.underlay import FLOWS
from tests.helpers.ns import ROOT

UNIT = ROOT / "docs/systemd/flannelette.service"
EXPOSURE = 30
"""The most that `systemd-analyze security` may say, in tenths: 28 with Debian 12's."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """With a program that is there."""
    path = tmp_path / UNIT.name
    program = tmp_path / "flannelette"
    program.touch(mode=0o755)
    text = UNIT.read_text().replace("/usr/local/bin/flannelette", str(program))
    path.write_text(text)
    return path


def setting(name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_everything_that_a_restart_goes_on_with_finds_room() -> None:
    """The TUN's queues, two sockets each, those that send VXLAN, and the document."""
    assert int(setting("FileDescriptorStoreMax")) >= 3 * MAX_QUEUES + 2 * FLOWS + 1


def test_the_rights_are_those_that_are_used() -> None:
    """privileges.py: the first two are kept."""
    rights = {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_SETPCAP"}
    assert set(setting("CapabilityBoundingSet").split()) == rights


def test_the_command_for_docker_is_one(tmp_path: Path) -> None:
    """D4. The line is a comment, so nothing else would notice."""
    [command] = re.findall(
        r"^#ExecStartPost=\S+ docker-opts (.*)$", UNIT.read_text(), re.M
    )
    subnet, target = tmp_path / "subnet.env", tmp_path / "docker"
    subnet.write_text(
        "FLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n"
    )
    words = command.replace("/run/flannel/docker", str(target)).split()
    docker_opts([*words, "-f", str(subnet)], {})
    assert "--bip=10.5.1.1/24" in target.read_text()


@needs_systemd
def test_systemd_understands_it(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_systemd_finds_it_hardened(unit: Path) -> None:
    done = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            f"--threshold={EXPOSURE}",
            unit,
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1]
