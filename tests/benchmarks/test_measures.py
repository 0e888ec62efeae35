"""The measures and the load generator, on real rigs; perf's words."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from flannelette.benchmarks import account, iperf, measures, worker
from flannelette.benchmarks.contenders import BY_NAME, Stand, stand
from flannelette.benchmarks.measures import find_perf, perf_count, quantile
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.worker import LoadGenerator, load_generator
from tests.helpers.ns import needs_namespaces, until

NOWHERE = Path("/nonexistent/flanneld")


@pytest.fixture(scope="module")
def none(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """No overlay."""
    place = tmp_path_factory.mktemp("n") / "stand"
    with stand(BY_NAME["none"], "nic", place, NOWHERE) as it:
        yield it


@pytest.fixture
def load() -> Iterator[LoadGenerator]:
    with load_generator() as generator:
        yield generator


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.floats(0.01, 1))
def test_quantile(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values) + 1e-6


# ---- perf ----------------------------------------------------------------------------


def test_perf_count() -> None:
    assert perf_count("# started\n\n4711,,raw_syscalls:sys_enter,12,100.00,,\n") == 4711


@pytest.mark.parametrize(
    "text", ["", "<not counted>,,raw_syscalls:sys_enter,0,100.00,,", "# 12,\n"]
)
def test_perf_that_did_not_count(text: str) -> None:
    with pytest.raises(RigError, match="has not counted"):
        perf_count(text)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("exit 255", "not allowed"),
        ('echo "<not supported>,,x" > $6', "has not counted"),
        (None, "the program perf is needed and not installed"),
    ],
)
def test_perf_that_cannot_be_used(
    script: str | None,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if script is not None:
        program = tmp_path / "perf"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    with pytest.raises(RigError, match=complaint):
        find_perf()


@needs_namespaces
@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed")
def test_system_calls_are_counted(none: Stand, load: LoadGenerator) -> None:
    try:
        perf = find_perf()
    except RigError as error:
        pytest.skip(str(error))
    tools = measures.Tools(load, 1, perf)
    [syscalls] = [
        measure for measure in measures.MEASURES if measure.name == "syscalls"
    ]
    assert syscalls.run(tools, none) == {}  # nobody forwards
    it = Stand(none.contender, none.rig, none.pods, none.mtu, none.others)
    values = syscalls.run(tools, it)  # iperf3's server, as if it were a daemon
    assert 0 < values["syscalls"] < 100
    assert syscalls.run(measures.Tools(load, 1, None), it) == {}


# ---- the load generator --------------------------------------------------------------


@needs_namespaces
@pytest.mark.parametrize(("size", "segments"), [(64, 1), (1400, 46)])
def test_all_that_is_sent_arrives_and_is_counted(
    none: Stand, load: LoadGenerator, size: int, segments: int
) -> None:
    before = packets_received(none)
    trial = load.datagrams(none, size, 20_000, 0.2, segments)
    assert trial.holds
    assert trial.received == trial.sent
    assert trial.sent % segments == 0
    assert 1000 < trial.sent <= 4000 + 2 * segments
    if segments == 1:  # one packet a message: no superpackets
        assert packets_received(none) - before >= trial.sent


def packets_received(it: Stand) -> int:
    """Of the second host's wire."""
    with it.rig.inside(it.rig.host(2)):
        text = Path("/proc/thread-self/net/dev").read_text()
    return account.devices(text)["eth0"].packets


@needs_namespaces
def test_what_is_lost_is_counted(none: Stand, load: LoadGenerator) -> None:
    """The second host drops what it should forward."""
    none.rig.ip(none.rig.host(2), "route add blackhole 10.5.2.2/32")
    try:
        trial = load.datagrams(none, 64, 20_000, 0.1)
    finally:
        none.rig.ip(none.rig.host(2), "route del blackhole 10.5.2.2/32")
    assert trial.sent > 0
    assert (trial.received, trial.loss) == (0, 1.0)


@needs_namespaces
def test_echoes(none: Stand, load: LoadGenerator) -> None:
    rtts = load.echoes(none, 0.1, 0.002)
    assert 10 <= len(rtts) <= 51
    assert all(0 < rtt < 1 for rtt in rtts)


@needs_namespaces
def test_no_answer_to_echoes(none: Stand, load: LoadGenerator) -> None:
    none.rig.ip(none.rig.host(2), "route add blackhole 10.5.2.2/32")
    try:
        with pytest.raises(RigError, match=r"no answer to pings from 10\.5\.1\.2"):
            load.echoes(none, 0.01, 0.002)
    finally:
        none.rig.ip(none.rig.host(2), "route del blackhole 10.5.2.2/32")


@needs_namespaces
def test_a_load_generator_that_fails_says_why_and_is_replaced(
    none: Stand, load: LoadGenerator
) -> None:
    source, target = none.pods
    nowhere = Stand(
        none.contender, none.rig, (replace(source, ns="fl-nowhere"), target), none.mtu
    )
    for _ in range(2):
        with pytest.raises(RigError, match=r"the load generator ended: .*No such file"):
            load.datagrams(nowhere, 64, 1000, 0.05)
        with pytest.raises(RigError, match=r"the load generator ended: .*No such file"):
            load.echoes(nowhere, 0.1, 0.01)
    assert load.echoes(none, 0.01, 0.001)
    assert load.datagrams(none, 64, 1000, 0.05).holds


@needs_namespaces
def test_a_load_generator_that_does_not_answer(
    none: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    with load_generator() as load:
        load.echoes(none, 0.01, 0.001)
        with monkeypatch.context() as impatient:
            impatient.setattr(worker, "PATIENCE", 0.0)
            with pytest.raises(RigError, match="does not answer"):
                load.sender.answer(0.01)
        assert load.echoes(none, 0.01, 0.001)


# ---- iperf3 --------------------------------------------------------------------------


@needs_namespaces
def test_a_load_beside(none: Stand) -> None:
    with iperf.background(none, 1, 30):
        before = packets_received(none)
        until(lambda: packets_received(none) > before + 1000)
    assert iperf.run(none, 1, 1).bytes > 0  # the server serves on


@needs_namespaces
def test_a_load_that_ends_too_early(
    none: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iperf, "command", lambda *_: ["true"])
    processes = none.rig._processes
    with pytest.raises(RigError, match="too early"), iperf.background(none, 1, 30):
        until(lambda: processes[-1].poll() is not None)


@needs_namespaces
def test_iperf_that_cannot_connect(
    none: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iperf, "IPERF_PORT", 1)
    with pytest.raises(RigError, match="iperf3: unable to connect"):
        iperf.run(none, 1, 1)


@needs_namespaces
def test_iperf_that_does_not_run(none: Stand) -> None:
    with pytest.raises(RigError, match=r"iperf3 did not run: .*/nonexistent"):
        iperf.run(none, 1, 1, under=["env", "/nonexistent"])
