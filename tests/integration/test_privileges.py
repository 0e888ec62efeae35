"""The rights of real daemons, thread by thread, and that they are enough."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flannelette.benchmarks.cluster import FLANNELETTE, OVERLAY, StoreKind
from flannelette.benchmarks.netns import tool
from flannelette.benchmarks.rig import Rig
from tests.helpers.capabilities import NET_ADMIN, NET_RAW, Rights, rights
from tests.helpers.firewalls import needs_firewalls
from tests.helpers.lab import Lab, lab
from tests.helpers.ns import needs_namespaces, until

pytestmark = [needs_namespaces, needs_firewalls]


@contextmanager
def up(
    directory: Path,
    *flags: str,
    store: StoreKind = "local",
    nftables: bool = False,
    datapath: str = "native",
    driver: str = "thread",
) -> Iterator[Lab]:
    """Two hosts that masquerade; the flags are host 1's."""
    rules = ["--ip-masq", "--iptables-resync=1"]
    with lab(
        directory, store=store, datapath=datapath, driver=driver, flags=rules
    ) as it:
        it.start_store()
        if nftables:
            network = json.dumps({"Network": str(OVERLAY), "EnableNFTables": True})
            path = f"--store=local:{directory / 'store.sqlite'}"
            subprocess.run([*FLANNELETTE, "net-config", path, network], check=True)
        it.cluster.start_daemon(1, *flags)
        it.cluster.start_daemon(2)
        for number in it.rig.numbers:
            until(lambda number=number: it.is_ready(number))  # type: ignore[misc]
        it.add_pods()
        it.until_reaches(1, 2)
        yield it


def check_rights(it: Lab, mask: int, threads: int) -> None:
    """Of every thread of the daemon on host 1; there are so many at least."""
    found = rights(it.cluster.daemons[1].process.pid)
    assert len(found) >= threads
    assert set(found.values()) == {Rights.only(mask)}


def check_repairs(it: Lab) -> None:
    """The TUN and the rules of host 1 go, and come back."""
    host, repairs = it.rig.host(1), it.status(1)["repairs"]
    it.rig.ip(host, f"link delete {it.status(1)['node']['device']}")
    it.until_reaches(1, 2)
    it.rig.run(host, [tool("nft"), "flush ruleset"])
    it.rig.run(host, [tool("iptables-legacy"), "-t", "nat", "-F"])
    until(lambda: it.status(1)["repairs"] >= repairs + 2)
    assert it.status(1)["last_error"] is None


def test_queues_rules_and_etcd(tmp_path: Path) -> None:
    """The program that steers queues was loaded by a right that is given up; a TUN that
    comes later has it. grpc has threads of its own."""
    with up(tmp_path, "--queues=2", store="etcd", driver="threads") as it:
        check_rights(it, NET_ADMIN, threads=1 + 4 + 1)
        check_repairs(it)
        assert it.status(1)["node"]["steering"] == "fixed"
        check_rights(it, NET_ADMIN, threads=1 + 4 + 1)


def test_nft(tmp_path: Path) -> None:
    with up(tmp_path, nftables=True, datapath="python", driver="loop") as it:
        check_rights(it, NET_ADMIN, threads=1)
        check_repairs(it)


def test_iptables_legacy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It speaks over raw sockets."""
    for name in ("iptables", "ip6tables"):
        for what in ("save", "restore"):
            legacy = shutil.which(f"{name}-legacy-{what}", path="/usr/sbin:/sbin")
            (tmp_path / f"{name}-{what}").symlink_to(str(legacy))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with up(tmp_path) as it:
        check_rights(it, NET_ADMIN | NET_RAW, threads=2)
        check_repairs(it)


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    """It says what to do, for flanneld would have read it."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    for path in (key, cert):
        path.touch(mode=0o600)
        os.chown(path, 65534, 65534)
    command = [
        *FLANNELETTE,
        "run",
        "--iface=eth0",
        f"--subnet-file={tmp_path / 'subnet.env'}",
        "--etcd-endpoints=https://127.0.0.1:2379",
        f"--etcd-certfile={cert}",
        f"--etcd-keyfile={key}",
    ]
    with Rig(2) as rig:
        done = rig.run(rig.host(1), command, check=False)
    assert done.returncode == 2
    assert f"--etcd-certfile {cert}: Permission denied" in done.stderr
    assert "--keep-privileges" in done.stderr.splitlines()[-1]


def test_a_low_port_of_the_network(tmp_path: Path) -> None:
    """Nobody knows of it before there are other threads."""
    store = f"--store=local:{tmp_path / 'store.sqlite'}"
    network = {"Network": str(OVERLAY), "Backend": {"Type": "udp", "Port": 53}}
    command = [*FLANNELETTE, "net-config", store, json.dumps(network)]
    subprocess.run(command, check=True)
    run = [*FLANNELETTE, "run", "--iface=eth0", store]
    run.append(f"--subnet-file={tmp_path / 'subnet.env'}")
    with Rig(2) as rig:
        done = rig.run(rig.host(1), run, check=False)
    assert done.returncode == 1
    complaint = done.stderr.splitlines()[-1]
    assert "Permission denied" in complaint
    assert ":53" in complaint
    assert "--keep-privileges" in complaint
