"""`flannelette lab`: a real ladder, a document and a page, and nothing left of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flannelette.benchmarks import lab, labdocument
from flannelette.benchmarks.labdocument import Document
from flannelette.benchmarks.labplan import FULL, QUICK
from flannelette.benchmarks.labrungs import BY_RUNG
from flannelette.control.errors import HostError
from flannelette.control.observe import extras
from tests.helpers import labsample
from tests.helpers.ns import as_nobody, needs_namespaces, until
from tests.helpers.running import Start

COMMAND = [sys.executable, "-m", "flannelette.control", "lab"]


def median(document: Document, rung: str, metric: str) -> float:
    found = document.results().figure(document.wire, rung, metric)
    assert found is not None, document.notes
    return found.median


@needs_namespaces
def test_a_ladder_looked_at_closely(start: Start, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    what = ("--rungs=none,thread", "--measures=tcp1,rtt", "--rounds=1")
    flags = (*what, f"--output={page}")
    run = start(*flags)
    assert run.end() == 0, run.err
    assert run.out == f"{page.with_suffix('.json')}\n{page}\n"
    assert "round 1 of 1" in run.err
    assert "after the rounds" in run.err
    document = labdocument.load(page.with_suffix(".json").read_bytes())
    assert document.command == f"flannelette lab {' '.join(flags)}"
    none, thread = document.rungs
    for metric in ("tcp1", "rtt", "machine_gb"):
        assert all(median(document, rung.name, metric) > 0 for rung in document.rungs)

    # Counts: of each byte six copies, and no read is missed by the tracepoints.
    assert none.counts is not None
    assert len(none.counts.there) == 2
    assert thread.counts is not None
    assert len(thread.counts.there) == 6
    for crossing in thread.counts.there:
        size = crossing.per_packet(crossing.bytes)
        assert size is not None
        assert 1400 < size < 1500
    for check in thread.checks:
        if not check.what.startswith(("copies", "pumps")):
            assert check.traced == pytest.approx(check.counted, rel=0.02, abs=300)
    untraced = any("tracepoints are not asked" in note for note in document.notes)
    assert len(thread.checks) == (2 if untraced else 6)
    assert thread.stages is not None
    assert [len(stages.per_packet()) > 0 for stages in thread.stages] == [True] * 4
    assert document.timers is not None
    assert document.timers.rung == "thread"
    assert len(document.timers.on) == len(document.timers.off) == 3


@needs_namespaces
def test_without_root_and_without_plotly(start: Start, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['plotly'] = None\n"
        "from flannelette.benchmarks import lab\n"
        "sys.exit(lab.main(sys.argv[1:]))"
    )
    page = Path("/dev/shm/page.html")  # as_nobody has one of its own
    command = [
        *(sys.executable, "-c", code, "--quick", "--rungs=c", "--measures=tcp1"),
        f"--output={page}",
    ]
    shown = ["sh", "-c", '"$@" && cat /dev/shm/page.json', "sh", *command]
    run = start(command=as_nobody(shown, tun_mode="666"))
    assert run.end() == 0, run.err
    first, *rest = run.err.splitlines()
    assert first.startswith("lab's page needs plotly")
    assert first.endswith("only the document is written")
    assert not any("plotly" in line for line in rest)
    said, _, text = run.out.partition("\n")
    assert said == str(page.with_suffix(".json"))
    document = labdocument.load(text.encode())
    [rung] = document.rungs
    assert rung.counts is not None
    assert rung.stages is not None
    assert any("count" in note for note in document.notes)
    assert median(document, "c", "syscalls") > 4


@needs_namespaces
@pytest.mark.parametrize(
    ("flag", "program", "number", "code"),
    [
        ("--rounds=9", "--client", signal.SIGINT, 130),
        ("--measures=tcp1,udp64", "loadgen", signal.SIGTERM, 128 + 15),
    ],
)
def test_a_signal_leaves_nothing(
    start: Start,
    tmp_path: Path,
    flag: str,
    program: str,
    number: signal.Signals,
    code: int,
) -> None:
    run = start("--rungs=c,thread", flag, f"--output={tmp_path / 'page.html'}")
    until(lambda: run.runs(program))
    run.process.send_signal(number)
    assert run.end() == code
    if number == signal.SIGINT:
        assert run.err.splitlines()[-1] == "interrupted; all is removed"
    assert run.out == ""
    assert list(tmp_path.iterdir()) == []


# ---- flags ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--wire=wifi"], "'wifi' for --wire: veth, nic or plain is wanted"),
        (["--rungs=none,flanneld"], "all or some of none,vxlan,python,"),
        (["--rungs="], "all or some of none,"),
        (["--measures=rtt"], "tcp1 and some of rtt,udp64 are wanted"),
        (["--measures=tcp1,tcp4"], "tcp1 and some of rtt,udp64 are wanted"),
        (["--rounds=101"], "0 to 100 are possible"),
        (["--rounds=x"], "a whole number is wanted"),
        (["--output=page.json"], "the page cannot end in .json"),
        (["--show"], "flag --show needs a value"),
        (["--colour"], "unknown flag: --colour"),
        (["more"], "unexpected argument: more"),
    ],
)
def test_wrong_flags(
    flags: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lab.main(flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flannelette lab: ")
    assert reason in err
    assert err.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.main(["--help"]) == 0
    out, _ = capsys.readouterr()
    assert all(f"--{flag.name}" in out for flag in lab.FLAGS)
    assert all(f"\n  {name} " in out for name in BY_RUNG)
    assert max(map(len, out.splitlines())) <= 80


def test_what_is_done_unless_told() -> None:
    options = lab.parse([])
    assert (options.page, options.document) == (Path("lab.html"), Path("lab.json"))
    assert options.wish.rungs == tuple(BY_RUNG)
    assert (options.wish.wire, options.wish.depth) == ("nic", FULL)
    assert options.wish.command == "flannelette lab"
    assert lab.parse(["--quick"]).wish.depth == QUICK
    assert lab.parse(["--quick", "--rounds=4"]).wish.depth.rounds == 4
    assert lab.parse(["--rungs=c,c"]).wish.rungs == ("c",)
    assert lab.parse(["--show", "a/b.json"]).page == Path("a/b.html")
    assert lab.parse(["--show", "a.json", "--output=c.html"]).page == Path("c.html")


def test_files_that_cannot_be_written_are_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lab.main([f"--output={tmp_path / 'no' / 'page.html'}"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "No such file or directory" in err


# ---- saved documents -----------------------------------------------------------------


def test_a_saved_document_is_shown_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "saved.json"
    file.write_bytes(labdocument.dump(labsample.document()))
    assert lab.main(["--show", str(file)]) == 0
    out, err = capsys.readouterr()
    page = tmp_path / "saved.html"
    assert (out, err) == (f"{page}\n", "")
    assert "<html" in page.read_text()


def test_what_is_not_a_saved_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("{}")
    assert lab.main(["--show", str(file)]) == 2
    assert f"{file}: no document of flannelette lab" in capsys.readouterr().err
    assert lab.main(["--show", str(tmp_path / "none")]) == 1
    assert "No such file or directory" in capsys.readouterr().err


def test_a_page_without_plotly(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def need(module: str, command: str) -> None:
        raise HostError(f"{command} needs {module}")

    monkeypatch.setattr(extras, "need", need)
    file = tmp_path / "saved.json"
    file.write_bytes(labdocument.dump(labsample.document()))
    assert lab.main(["--show", str(file)]) == 1
    _, err = capsys.readouterr()
    assert err == "flannelette lab: lab's page needs plotly\n"
    assert not (tmp_path / "saved.html").exists()


def test_the_command_line_knows_it() -> None:
    done = subprocess.run(
        [*COMMAND, "--rungs=x"], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2
    assert done.stderr.startswith("flannelette lab: ")
