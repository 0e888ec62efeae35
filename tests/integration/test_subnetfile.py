"""subnet.env as the daemon finds it: unreadable, half-written, of another network, in a
place where nobody can write."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flannelette.benchmarks.cluster import FLANNELETTE
from tests.helpers.lab import lab
from tests.helpers.leases import delete_leases
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces

NO_ROOT = [
    *("setpriv", "--bounding-set=-dac_override,-dac_read_search"),
    "--inh-caps=-dac_override,-dac_read_search",
]
"""Put before a command, files of others are closed to it."""


def refused(path: Path, *prefix: str) -> str:
    """A daemon that ends at once, with 1 and one line, and leaves all as it is."""
    before = sorted(os.listdir(path.parent))
    run = ["run", f"--subnet-file={path}", "--iface=nope0"]
    done = subprocess.run(
        [*prefix, *FLANNELETTE, *run], stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("flannelette: ")
    assert sorted(os.listdir(path.parent)) == before
    return line


def test_not_to_be_read(tmp_path: Path) -> None:
    """E15: our last subnet would be forgotten, and overwritten."""
    path = tmp_path / "subnet.env"
    path.write_text("FLANNEL_SUBNET=10.5.72.1/24\n")
    os.chown(path, 65534, 65534)
    path.chmod(0o600)
    line = refused(path, *NO_ROOT)
    assert "Permission denied" in line
    assert f"while reading the subnet file {path}" in line
    assert path.read_text() == "FLANNEL_SUBNET=10.5.72.1/24\n"


def test_a_directory_that_is_not_to_be_written(tmp_path: Path) -> None:
    read_only = f'mount -t tmpfs -o ro none {tmp_path} && exec "$@"'
    path = tmp_path / "subnet.env"
    line = refused(path, "unshare", "--mount", "sh", "-c", read_only, "sh")
    assert "Read-only file system" in line
    assert f"the subnet file {path} cannot be written" in line
    path = tmp_path / "closed" / "subnet.env"
    path.parent.mkdir(0o555)
    os.chown(path.parent, 65534, 65534)
    assert "Permission denied" in refused(path, *NO_ROOT)


def test_where_there_is_no_room(tmp_path: Path) -> None:
    """Found out before a daemon lets go that is to be taken over from: it goes on."""
    full = f"mount -t tmpfs -o size=1m none {tmp_path}; cat /dev/zero >{tmp_path}/all"
    command = f'{full} 2>&-; exec "$@"'
    path = tmp_path / "subnet.env"
    line = refused(path, "unshare", "--mount", "sh", "-c", command, "sh")
    assert "No space left on device" in line
    assert f"the subnet file {path} cannot be written" in line


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "subnet.env"
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    word = "Is a directory" if kind == "directory" else "Not a regular file"
    assert word in refused(path)


def test_what_says_nothing_is_replaced(tmp_path: Path) -> None:
    """Half-written, or of another network: a new subnet is taken. What names one of
    ours is asked for again (E15)."""
    with lab(tmp_path) as it:
        it.start_store()
        path = tmp_path / "h1" / "subnet.env"
        path.parent.mkdir()
        for text, wanted in (
            (b"FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/2", None),
            (b"FLANNEL_NETWORK=10.9.0.0/16\nFLANNEL_SUBNET=10.9.3.1/24\n", None),
            (b"FLANNEL_SUBNET=10.5.72.1/24\n", "10.5.72.0/24"),
        ):
            path.write_bytes(text)
            daemon = it.cluster.start_daemon(1)
            until(lambda: it.is_ready(1))
            subnet = it.status(1)["lease"]["subnet"]
            assert subnet.startswith("10.5.")
            assert subnet.endswith("/24")
            assert wanted in (None, subnet)
            lines = path.read_text().splitlines()
            assert lines[0] == "FLANNEL_NETWORK=10.5.0.0/16"
            assert lines[1] == f"FLANNEL_SUBNET={subnet.replace('.0/', '.1/')}"
            assert len(lines) == 4
            daemon.process.terminate()
            assert daemon.process.wait(20) == 0
            delete_leases(tmp_path / "store.sqlite", subnet)
