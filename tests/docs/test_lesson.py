"""The lesson's commands, each run as it stands there, and what it says of their counts.

Only the rounds are fewer. What depends on the machine's speed is not asserted."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from flannelette.benchmarks import labdocument
from flannelette.benchmarks.labdocument import Document, Rung
from tests.helpers.ns import ROOT, needs_namespaces

LESSON = ROOT / "docs/lesson.md"
DEADLINE = 60.0
ONE = pytest.approx(1, abs=0.01)
"""A packet: what is under way when the counts are taken is counted at one end only."""
SOURCES = ("benchmarks", "control", "dataplane", "encap", "native", "tun")


@dataclass(frozen=True)
class Step:
    """One section of the lesson."""

    title: str
    text: str

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.M | re.S)

    @property
    def commands(self) -> list[list[str]]:
        return [shlex.split(block) for block in self.blocks("sh")]


def steps() -> list[Step]:
    head, *parts = re.split(r"^## (\d\. .*)$", LESSON.read_text(), flags=re.M)
    assert "```" not in head
    return [Step(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]


STEPS = steps()


def test_six_steps_each_with_a_command_a_look_a_question_and_its_answer() -> None:
    assert [step.title[0] for step in STEPS] == ["1", "2", "3", "4", "5", "6"]
    for step in STEPS:
        assert len(step.commands) == (2 if step is STEPS[5] else 1)
        for mark in ("*Look at* ", "**Question.** ", "<summary>Answer</summary>"):
            assert step.text.count(mark) == 1
    outputs = [command[-1] for step in STEPS for command in step.commands]
    assert len(set(outputs)) == len(outputs) == 7


def run(command: list[str], place: Path, sources: Path | None = None) -> Document:
    """Run one of the lesson's commands in a directory; its document."""
    assert command[:3] == ["flannelette", "lab", "--quick"]
    flags = ["--rounds=1" if flag == "--rounds=3" else flag for flag in command[1:]]
    environment = dict(os.environ)
    if sources is not None:
        environment["PYTHONPATH"] = str(sources / "build/types")
    done = subprocess.run(
        [sys.executable, "-m", "flannelette.control", *flags],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    page = place / command[-1].removeprefix("--output=")
    assert "<html" in page.read_text()
    return labdocument.load(page.with_suffix(".json").read_bytes())


def rungs(document: Document, *names: str) -> list[Rung]:
    """Those of the document, which has no others."""
    assert [rung.name for rung in document.rungs] == list(names), document.notes
    return list(document.rungs)


def figure(document: Document, rung: Rung, metric: str) -> float:
    found = document.results().figure(document.wire, rung.name, metric)
    assert found is not None, document.notes
    return found.median


def there(rung: Rung) -> dict[str, tuple[float, float, float]]:
    """Bytes, calls and units per packet, by place, where daemons are."""
    assert rung.counts is not None
    found: dict[str, tuple[float, float, float]] = {}
    for it in rung.counts.there:
        if not it.place.startswith("app_"):
            each = it.bytes, it.calls, it.units
            size, calls, units = (it.per_packet(count) or 0.0 for count in each)
            found[it.place] = size, calls, units
    return found


@needs_namespaces
def test_two_crossings_or_six(tmp_path: Path) -> None:
    document = run(STEPS[0].commands[0], tmp_path)
    none, vxlan, python = rungs(document, "none", "vxlan", "python")
    assert figure(document, none, "copies") == figure(document, vxlan, "copies") == 2
    assert 6 < figure(document, python, "copies") < 7
    assert (len(there(none)), len(there(python))) == (0, 4)


@needs_namespaces
def test_c_calls_as_often_as_python(tmp_path: Path) -> None:
    document = run(STEPS[1].commands[0], tmp_path)
    for rung in rungs(document, "python", "c"):
        for size, calls, units in there(rung).values():
            assert 1400 < size <= rung.mtu
            assert 0.99 < calls < 1.5
            assert units == ONE


@needs_namespaces
def test_batches_share_the_socket_s_calls_only(tmp_path: Path) -> None:
    document = run(STEPS[2].commands[0], tmp_path)
    c, batched = rungs(document, "c", "batched")
    for place in ("wire_send", "wire_receive"):
        assert there(batched)[place][1] < 0.5
    for place in ("tun_read", "tun_write"):
        assert there(batched)[place][1] > 0.99
    assert figure(document, batched, "syscalls") < figure(document, c, "syscalls")


@needs_namespaces
def test_as_many_bytes_by_fewer_units(tmp_path: Path) -> None:
    document = run(STEPS[3].commands[0], tmp_path)
    batched, gso, tun = rungs(document, "batched", "gso", "tun")
    assert all(units == ONE for _, _, units in there(batched).values())
    assert there(gso)["wire_send"][2] < 0.5
    assert there(gso)["tun_read"][2] == ONE
    assert all(units < 0.2 for _, _, units in there(tun).values())
    assert all(size > 1400 for size, _, _ in there(tun).values())


@needs_namespaces
def test_the_stages_of_what_is_left(tmp_path: Path) -> None:
    document = run(STEPS[4].commands[0], tmp_path)
    for rung in rungs(document, "tun", "thread", "threads"):
        assert figure(document, rung, "rtt") > 0
        assert rung.stages is not None
        one, two = (
            next(s for s in rung.stages if (s.host, s.direction) == which)
            for which in ((1, "tx"), (2, "rx"))
        )
        assert {"read", "split", "send"} <= one.per_packet().keys()
        assert {"receive", "checksum", "write"} <= two.per_packet().keys()


def changed_sources(place: Path, step: Step) -> Path:
    """Our own sources, with the step's change made to PurePath."""
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    types = place / "build/types"
    types.mkdir(parents=True)
    (types / "flannelette").symlink_to(place)
    path = place / "dataplane/purepath.py"
    text = path.read_text()
    for hunk in step.blocks("diff"):
        lines = hunk.splitlines()
        old, new = (
            "".join(f"{line[1:]}\n" for line in lines if line[0] == sign)
            for sign in "-+"
        )
        assert text.count(old) == 1, f"the lesson changes what is not there: {old}"
        text = text.replace(old, new)
    path.write_text(text)
    return place


@needs_namespaces
def test_a_change_to_purepath(tmp_path: Path) -> None:
    before, after = STEPS[5].commands
    assert before[:-1] == after[:-1]
    sources = changed_sources(tmp_path / "sources", STEPS[5])
    said = subprocess.run(
        [sys.executable, "-c", _WHERE],
        env={**os.environ, "PYTHONPATH": str(sources / "build/types")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "lru_cache" in said.stdout  # the change is in what runs
    document = run(after, tmp_path, sources)
    python, c = rungs(document, "python", "c")
    for rung in (python, c):
        assert all(units == ONE for _, _, units in there(rung).values())
    assert figure(document, python, "daemons_gb") > 0


_WHERE = "from flannelette.dataplane import purepath; print(type(purepath._address))"
