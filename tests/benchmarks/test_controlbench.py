"""`flannelette bench-control`: a small cluster for real, and what it says of others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flannelette.benchmarks import controlbench, rootless
from flannelette.benchmarks.controlbench import Document
from flannelette.benchmarks.controlmeasures import Finding, quantile
from flannelette.benchmarks.netns import RigError
from tests.helpers.etcd import require_etcd
from tests.helpers.ns import needs_namespaces
from tests.helpers.running import Start

COMMAND = [sys.executable, "-m", "flannelette.control", "bench-control"]
CHANGES = {
    f"{what}_{name}"
    for what in ("moved", "removed", "added")
    for name in ("median", "p99")
}
MEASURED = {
    *("sync", "memory", "memory_peak", "cpu_sync", *CHANGES, "change_loss"),
    *("renewals", "backlog", "cpu_storm", "storm_loss"),
    *("clear", "cpu_clear", "clear_loss"),
}
FOUND = Finding("udp", "sync", "first sync", 2.5, "s", 3.0)


@needs_namespaces
@pytest.mark.parametrize("backend", ["udp", "vxlan"])
def test_a_cluster(start: Start, backend: str) -> None:
    require_etcd()
    daemons = 20 if backend == "udp" else 0
    run = start(
        f"--backends={backend}",
        "--leases=300",
        f"--daemons={daemons}",
        "--seconds=1",
        "--json=-",
    )
    code = run.end()
    document = msgspec.json.decode(run.out, type=Document)
    assert document.failures == [], run.err
    # Its limits are a matter of time: another's of the machine.
    assert code == (0 if document.passed else 1)
    found = {(it.backend, it.key): it for it in document.findings}
    measured = {(backend, key) for key in MEASURED}
    if daemons:
        churn = ("joins", "join_p99", "deaf", "missed")
        measured |= {("churn", key) for key in churn}
        assert found["churn", "deaf"].value == 0
        assert found["churn", "missed"].value == 0
    assert found.keys() == measured
    for key in ("sync", "memory", "moved_median", "renewals", "clear"):
        assert found[backend, key].value > 0
    assert max(map(len, run.err.splitlines())) <= 80


def test_quantiles() -> None:
    hundred = [float(n) for n in range(100, 0, -1)]
    assert quantile(hundred, 0.5) == 50
    assert quantile(hundred, 0.99) == 99
    assert quantile([7.0], 0.99) == 7
    assert quantile([1.0, 2.0], 0.99) == 2


def run(monkeypatch: pytest.MonkeyPatch, findings: list[Finding], *flags: str) -> int:
    def measure(*_: Any) -> Iterator[Finding]:
        yield from findings
        if not findings:
            raise RigError("etcd does not answer")

    monkeypatch.setattr(controlbench, "measure", measure)
    monkeypatch.setattr(rootless, "become_privileged", lambda: False)
    return controlbench.main(["--backends=udp", "--daemons=0", *flags])


def test_a_limit_that_is_broken(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    require_etcd()
    slow = replace(FOUND, value=3.5)
    free = replace(FOUND, key="cpu", about="processor time", value=9.0, limit=None)
    file = tmp_path / "results"
    assert run(monkeypatch, [FOUND, free]) == 0
    assert "met" in capsys.readouterr().out
    assert run(monkeypatch, [FOUND, slow, free], f"--json={file}") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "first sync 2.50 s 3 s met first sync 3.50 s 3 s NOT MET" in said
    assert "processor time 9.00 s" in said
    document = msgspec.json.decode(file.read_bytes(), type=Document)
    assert document.findings == [FOUND, slow, free]
    assert not document.passed


def test_what_cannot_be_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_etcd()
    assert run(monkeypatch, []) == 1
    assert "udp: etcd does not answer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--leases=19", "20 to 50000 are possible"),
        ("--backends=udp,host", "some of udp,vxlan,kernel are wanted"),
        ("--daemons=-1", "0 to 10000 are possible"),
        ("--seconds=0", "1 to 600 are possible"),
    ],
)
def test_wrong_flags(flag: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, _, value = flag.partition("=")
    assert controlbench.main([flag]) == 2
    assert capsys.readouterr().err == (
        f"flannelette bench-control: invalid value {value!r} for {name}: {said}\n"
    )


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert controlbench.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for flag in controlbench.FLAGS:
        assert f"--{flag.name} " in out
