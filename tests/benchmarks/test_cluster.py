"""A cluster on a rig: what it says when its programs do not run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from flannelette.benchmarks.cluster import (
    Cluster,
    Program,
    ProgramDied,
    StoreKind,
)
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.rig import Rig
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def test_a_daemon_comes_back_to_its_subnet(rig: Rig, tmp_path: Path) -> None:
    cluster = Cluster(rig, tmp_path)
    cluster.start_store(soon())
    cluster.start()
    before = cluster.wait_connected(soon())
    assert cluster.statuses().keys() == {1, 2}
    rig.stop(cluster.daemons[2].process)
    with pytest.raises(ProgramDied, match=r"^the daemon of host 2 ended \(exit 0\)"):
        cluster.check()
    cluster.start_daemon(2)
    after = cluster.wait_connected(soon())
    assert after[2]["lease"]["subnet"] == before[2]["lease"]["subnet"]


def test_static_hosts_have_the_subnets_of_their_numbers(
    rig: Rig, tmp_path: Path
) -> None:
    cluster = Cluster(rig, tmp_path, store="static", datapath="python", driver="loop")
    cluster.start_store(soon())
    cluster.start()
    for number, status in cluster.wait_connected(soon()).items():
        assert status["lease"]["subnet"] == f"10.5.{number}.0/24"
        assert status["node"]["datapath"] == "python"
        assert status["node"]["driver"] == "loop"


@pytest.mark.parametrize("store", get_args(StoreKind))
def test_vxlan_in_dual_stack(store: StoreKind, tmp_path: Path) -> None:
    backend = {"Type": "vxlan", "VNI": 9, "DirectRouting": False}
    with Rig(ipv6=True) as rig:
        cluster = Cluster(rig, tmp_path, store=store, backend=backend, ipv6=True)
        cluster.start_store(soon())
        cluster.start()
        for number, status in cluster.wait_connected(soon()).items():
            assert status["node"]["public_ipv6"] == str(rig.address6(number))
            assert status["node"]["vni"] == 9
            assert len(status["routes"]) == 2
            if store == "static":
                assert status["lease"]["subnet6"] == f"fd00:5:0:{number}::/64"
                assert status["node"]["mac"] == f"02:00:00:00:00:0{number}"


def test_who_is_not_ready_in_time_is_said(rig: Rig, tmp_path: Path) -> None:
    cluster = Cluster(rig, tmp_path)
    cluster.start_store(soon())
    cluster.start()
    with pytest.raises(RigError, match=r"^the daemon of host 1 does not answer in ti"):
        cluster.wait_connected(time.monotonic())
    cluster.wait_connected(soon())
    cluster.daemons[3] = cluster.daemons[1]  # as if there were a third host
    with pytest.raises(RigError, match=r"^host 1 knows 1 of 2 others in time$"):
        cluster.wait_connected(soon(0.1))


def test_etcd_that_dies_is_said(rig: Rig, tmp_path: Path) -> None:
    cluster = Cluster(rig, tmp_path, store="etcd")
    cluster.start_store(soon())
    cluster.check()
    [etcd] = cluster.programs
    etcd.process.kill()
    etcd.process.wait()
    with pytest.raises(ProgramDied, match=r"^etcd ended \(signal 9\); the last it sai"):
        cluster.check()


def test_a_dead_program_s_last_lines_are_shown(rig: Rig, tmp_path: Path) -> None:
    script = "for n in $(seq 20); do echo line $n; done; exit 7"
    program = Program(
        rig, rig.host(1), "the script", ["sh", "-c", script], tmp_path / "log"
    )
    until(lambda: program.process.poll() is not None)
    with pytest.raises(ProgramDied) as caught:
        program.check()
    head, *lines = str(caught.value).splitlines()
    assert head == "the script ended (exit 7); the last it said:"
    assert lines == [f"    line {number}" for number in range(9, 21)]


def test_a_network_config_that_cannot_be_written(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("this is no database, whatever it is called")
    with pytest.raises(RigError, match=r"store\.sqlite.*\S$"):
        Cluster(rig, tmp_path).start_store(soon())
