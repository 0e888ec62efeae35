"""`flannelette bench`: real overlays, real load, and nothing left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flannelette.benchmarks import bench, machine
from flannelette.benchmarks.bars import judge
from flannelette.benchmarks.contenders import BY_NAME, MAIN
from flannelette.benchmarks.netns import tool
from flannelette.benchmarks.results import Place, Results, dump, load
from tests.helpers.ns import as_nobody, needs_namespaces, until
from tests.helpers.running import Start, starter

COMMAND = [sys.executable, "-m", "flannelette.control", "bench"]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with starter(tmp_path_factory, COMMAND) as it:
        yield it


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
    until(lambda: run.runs(program))
    run.process.send_signal(number)
    assert run.end() == code
    if number == signal.SIGINT:
        assert complaint(run.err) == "interrupted; all is removed"
    assert run.out == ""


# ---- flags ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--wire=wifi"], "'wifi' for --wire: some of veth,nic,plain are wanted"),
        (["--wire="], "'' for --wire: some of veth,nic,plain are wanted"),
        (["--contenders=none,tcp1"], "some of none,vxlan,"),
        (["--measures=tcp2"], "some of tcp1,tcp4,"),
        (["--rounds=0"], "1 to 1000 are possible"),
        (["--seconds=x"], "a whole number is wanted"),
        (["--colour"], "unknown flag: --colour"),
        (["more"], "unexpected argument: more"),
        (["--show"], "flag --show needs a file"),
        (["--show", "--bars"], "flag --show needs a file"),
        (["--show", "x", "--bars", "y"], "unexpected argument: y"),
        (["--show=x"], "unknown flag: --show"),
    ],
)
def test_wrong_flags(
    flags: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flannelette bench: ")
    assert reason in err
    assert err.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--help"]) == 0
    out, _ = capsys.readouterr()
    for flag in bench.FLAGS:
        assert f"--{flag.name}" in out
    for word in (*BY_NAME, *bench.ABOUT):
        assert f"\n  {word} " in out


def test_what_is_measured_unless_told() -> None:
    plan = bench.parse([]).plan
    assert plan.wires == ("nic", "plain", "veth")
    assert (plan.contenders, plan.measures) == (None, None)
    quick = bench.parse(["--quick"]).plan
    assert quick.wires == ("nic",)
    assert quick.contenders == MAIN
    assert quick.rounds == 1
    told = bench.parse(["--quick", "--rounds=3", "--contenders=auto"]).plan
    assert (told.rounds, told.contenders) == (3, None)


def test_a_file_that_cannot_be_written_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main([f"--json={tmp_path / 'no' / 'file'}"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "No such file or directory" in err


# ---- saved results -------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str, float], str]:
    """Write a run in which ours is so many times as fast as VXLAN."""

    def save(run: str, times: float) -> str:
        it = Results(run, "2026-01-01", {}, {})
        it.add(Place("nic", "vxlan", "tcp1"), 2.0)
        it.add(Place("nic", "thread", "tcp1"), 2.0 * times)
        path = tmp_path / run
        path.write_bytes(dump(it))
        return str(path)

    return save


def test_saved_results_are_shown_each_by_itself(
    saved: Callable[[str, float], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--show", saved("one", 3.0), saved("two", 7.0)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    one, two = out.split("run two")
    assert "3.00x" in one
    assert "7.00x" not in one
    assert "7.00x" in two
    assert "3.00x" not in two


def test_bars_across_files_are_refused(
    saved: Callable[[str, float], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--bars", "--show", saved("one", 3.0), saved("two", 7.0)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "flannelette bench: no ratio between figures of different runs (one and two):"
        " measure both in one run\n"
    )


def test_bars_of_a_file(
    saved: Callable[[str, float], str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved("one", 3.0)
    assert bench.main(["--bars", "--show", file]) == 1  # some were not measured
    out, _ = capsys.readouterr()
    said = " ".join(out.split())
    assert "TCP, 1 flow nic vxlan ≥ 2.00x 3.00x met" in said
    assert "TCP, 4 flows nic vxlan ≥ 2.00x not measured NOT MET" in said
    for flags in (["--show", file, "--bars"], ["--show", file, "--bars=true"]):
        assert bench.main(flags) == 1
        assert capsys.readouterr().out == out


def test_what_is_not_saved_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("{}")
    assert bench.main(["--show", str(file)]) == 2
    assert f"{file}: no results of flannelette bench" in capsys.readouterr().err
    assert bench.main(["--show", str(tmp_path / "none")]) == 1
    assert "No such file or directory" in capsys.readouterr().err


# ---- the machine ---------------------------------------------------------------------


def test_what_is_said_of_the_machine() -> None:
    found = machine.describe(None)
    assert found["machine"].startswith(f"{os.cpu_count()} x ")
    assert found["flanneld"] == "not there"
    assert len(found["load before"].split()) == 3


@pytest.mark.parametrize(
    ("busy", "stolen", "words"),
    [
        (0.05, 0.05, None),
        (0.5, 0.0, "other programs use 50% of the processors"),
        (0.0, 0.25, "the hypervisor takes 25% of the processors away"),
        (
            0.5,
            0.25,
            "other programs use 50% of the processors and the hypervisor",
        ),
    ],
)
def test_disturbance(busy: float, stolen: float, words: str | None) -> None:
    found = machine.disturbance(busy, stolen)
    assert (found or "").startswith(words or "")
    assert (found is None) == (words is None)


def test_a_disturbed_machine_is_noticed() -> None:
    code = "import time\nwhile time.process_time() < 20: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as burner:
        until(lambda: "other programs use" in (machine.noise() or ""))
        burner.kill()


def test_what_the_hypervisor_has_taken() -> None:
    with machine.stolen() as share:
        machine.noise()
    assert 0 <= share() <= 1
