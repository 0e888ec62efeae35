"""`flannelette bench`: real overlays, real load, and nothing left of it."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from flannelette.benchmarks.bars import judge
from flannelette.benchmarks.netns import tool
from flannelette.benchmarks.results import load
from tests.helpers.ns import as_nobody, needs_namespaces, until
from tests.helpers.running import DEADLINE, Start

COMMAND = [sys.executable, "-m", "flannelette.control", "bench"]


def complaint(err: str) -> str:
    """What went wrong: the last line; a busy machine may be warned of before."""
    return err.splitlines()[-1]


@needs_namespaces
def test_two_contenders(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    run = start(
        "--wire=nic",
        "--contenders=vxlan,thread",
        "--measures=tcp1,rtt",
        "--rounds=1",
        f"--json={file}",
    )
    assert run.end() == 0, run.err
    assert "round 1 of 1" in run.err
    assert max(map(len, run.out.splitlines())) <= 80
    assert "nic wire: times vxlan" in run.out
    assert "TCP, 1 flow" in run.out  # a bar

    results = load(file.read_bytes())
    assert [note for note in results.notes if "not idle" not in note] == []
    assert results.contenders("nic") == ["vxlan", "thread"]
    found = {
        (figure.place.contender, figure.place.metric): figure.median
        for figure in results
    }
    both = {"tcp1", "machine_gb", "copies", "rtt", "rtt_p99"}
    ours = {*both, "daemons_gb", "switches"}
    assert found.keys() == {
        *(("vxlan", key) for key in both),
        *(("thread", key) for key in ours),
    }
    assert all(value > 0 for value in found.values())
    # Ours takes each byte from the kernel and gives it back, on either host.
    assert found["vxlan", "copies"] == 2
    assert 6 < found["thread", "copies"] < 7
    assert found["thread", "rtt"] <= found["thread", "rtt_p99"]
    assert results.machine["iperf3"].startswith("iperf 3")


@needs_namespaces
def test_the_ladder_and_loss_free_rates(start: Start) -> None:
    run = start(
        "--wire=veth", "--contenders=c", "--measures=udp64", "--rounds=1", "--json=-"
    )
    assert run.end() == 0, run.err
    assert "veth wire: throughput" in run.err
    document = json.loads(run.out)
    found = {figure["metric"]: figure["median"] for figure in document["figures"]}
    assert found.keys() == {"udp64", "daemons_mpkt", "machine_mpkt"}
    assert found["udp64"] > 1


@needs_namespaces
def test_ours_over_both_ip_versions_and_a_join(start: Start) -> None:
    run = start(
        "--wire=nic",
        "--contenders=uservxlan,uservxlan6",
        "--measures=tcp1,rtt,join",
        "--rounds=1",
        "--json=-",
    )
    assert run.end() == 0, run.err
    said = " ".join(run.err.split())
    assert "the same over IPv6 nic uservxlan ≥ 0.90x" in said
    results = load(run.out.encode())
    assert [note for note in results.notes if "not idle" not in note] == []
    four, six = (
        results.figure("nic", name, "tcp1") for name in ("uservxlan", "uservxlan6")
    )
    assert four is not None
    assert six is not None
    assert results.figure("nic", "uservxlan", "rtt") is not None
    assert results.figure("nic", "uservxlan6", "rtt") is None
    joins = [verdict for verdict in judge(results) if verdict.bar.metric == "join"]
    assert len(joins) == 2
    assert all(verdict.found for verdict in joins)


@needs_namespaces
def test_who_is_missing_is_said(start: Start) -> None:
    run = start(
        "--contenders=none,flanneld",
        "--measures=rtt",
        "--rounds=1",
        "--wire=plain",
        "--flanneld=/nonexistent",
        "--bars",
    )
    assert run.end() == 1, run.err  # no bar is met
    said = " ".join(run.out.split())
    assert "flanneld is left out: there is no program /nonexistent" in said
    assert "flanneld not there" in said
    assert "RTT idle, median nic flanneld ≤ 0.80x not measured NOT MET" in said


@needs_namespaces
def test_iperf3_that_is_missing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "ip").symlink_to(tool("ip"))
    run = start(command=["env", f"PATH={tmp_path}", *COMMAND, "--quick"])
    assert run.end() == 1
    assert run.out == ""
    assert (
        run.err == "flannelette bench: the program iperf3 is needed and not installed\n"
    )


@needs_namespaces
def test_without_root(start: Start) -> None:
    flags = [
        "--wire=nic",
        "--contenders=vxlan,thread",
        "--measures=tcp1,syscalls",
        "--rounds=1",
    ]
    run = start(command=as_nobody([*COMMAND, *flags], tun_mode="666"))
    assert run.end() == 0, run.err
    assert "nic wire: times vxlan" in run.out


@needs_namespaces
@pytest.mark.parametrize(
    ("measure", "program", "number", "code"),
    [
        ("tcp1", "--client", signal.SIGINT, 130),
        ("udp64", "loadgen", signal.SIGINT, 130),
        ("rtt_load", "--client", signal.SIGINT, 130),
        ("syscalls", "--client", signal.SIGTERM, 128 + 15),
    ],
)
def test_a_signal_leaves_nothing(
    start: Start, measure: str, program: str, number: signal.Signals, code: int
) -> None:
    run = start(
        "--wire=nic",
        "--contenders=thread",
        f"--measures={measure}",
        "--seconds=30",
        "--rounds=9",
    )
    until(lambda: run.runs(program), DEADLINE)
    run.process.send_signal(number)
    assert run.end() == code
    if number == signal.SIGINT:
        assert complaint(run.err) == "interrupted; all is removed"
    assert run.out == ""
