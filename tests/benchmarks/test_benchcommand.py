"""`flannelette bench` without a measurement: its flags, and results of earlier runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flannelette.benchmarks import bench
from flannelette.benchmarks.contenders import BY_NAME, MAIN
from flannelette.benchmarks.results import Place, Results, dump

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
