"""Nothing is left of a rig: not after an error, nor after a signal at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from typing import Any

import pytest

from flannelette.benchmarks import interrupts, netns
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.rig import Rig
from tests.helpers.ns import MARK, marked, namespaces, needs_namespaces, until
from tests.helpers.rigs import MINE, pods_by_kernel_routes

pytestmark = [needs_namespaces, pytest.mark.usefixtures("rigs_end_clean")]

# ---- programs ------------------------------------------------------------------------


def test_all_is_removed_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = uuid.uuid4().hex
    marks = {**os.environ, MARK: mark}

    def fail() -> None:
        with Rig() as rig:
            rig.popen(rig.host(1), ["sleep", "60"], env=marks)
            stubborn = "trap '' TERM; echo; while :; do sleep 1; done"
            deaf = rig.popen(
                rig.pod_ns(1), ["sh", "-c", stubborn], env=marks, stdout=-1
            )
            assert deaf.stdout is not None
            deaf.stdout.readline()
            # Its parent is gone before the rig looks: only the namespace tells.
            orphan = ["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 &"]
            rig.run(rig.host(2), orphan, env=marks)
            assert len(marked(mark)) >= 3
            raise LookupError

    monkeypatch.setattr("flannelette.benchmarks.rig.GRACE", 0.2)
    with pytest.raises(LookupError):
        fail()
    until(lambda: not marked(mark))


def test_programs_do_not_hear_the_terminal_s_ctrl_c() -> None:
    with Rig() as rig:
        assert os.getpgid(rig.popen(rig.host(1), ["sleep", "60"]).pid) != os.getpgrp()


def test_stop_ends_what_the_program_started() -> None:
    mark = uuid.uuid4().hex
    with Rig() as rig:
        command = ["sh", "-c", "sleep 60 & echo; wait"]
        shell = rig.popen(
            rig.host(1), command, stdout=-1, env={**os.environ, MARK: mark}
        )
        assert shell.stdout is not None
        shell.stdout.readline()
        assert len(marked(mark)) == 2
        rig.stop(shell)
        assert shell.returncode == -signal.SIGTERM
        until(lambda: not marked(mark))


def test_what_cannot_be_removed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ip = netns.ip

    def refuse_one(lines: Any, ns: str | None = None) -> None:
        lines = list(lines)
        if lines[0].endswith("-h2") and "delete" in lines[0]:
            raise RigError("no")
        ip(lines, ns)

    with monkeypatch.context() as patch:
        patch.setattr(netns, "ip", refuse_one)
        with pytest.raises(RigError, match=r"^no$"), Rig():
            pass
    left = namespaces(MINE)
    assert len(left) == 1
    assert left[0].endswith("-h2")
    netns.delete(left)


# ---- signals -------------------------------------------------------------------------


class Step:
    """Sends this process a signal at the n-th change that the rig makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, at: int) -> None:
        self.calls = 0
        self._number, self._at, self._ip = number, at, netns.ip
        monkeypatch.setattr(netns, "ip", self)

    def __call__(self, lines: Any, ns: str | None = None) -> None:
        self.calls += 1
        if self.calls == self._at:
            os.kill(os.getpid(), self._number)
        self._ip(lines, ns)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_step(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the build, in the use and in the cleanup alike: sweep all steps."""
    expected = KeyboardInterrupt if number == signal.SIGINT else SystemExit

    def calls(at: int) -> int:
        with monkeypatch.context() as patch:
            step = Step(patch, number, at)
            with Rig() as rig:
                pods_by_kernel_routes(rig)
            return step.calls

    steps = calls(at=0)
    assert steps > 12
    for at in range(1, steps + 1):
        with pytest.raises(expected) as caught:
            calls(at)
        if isinstance(caught.value, SystemExit):
            assert caught.value.code == 128 + number
        assert namespaces(MINE) == []


@pytest.mark.parametrize("unwinding", [60.0, 0.0])
def test_a_second_signal_does_not_stop_the_cleanup(
    monkeypatch: pytest.MonkeyPatch, unwinding: float
) -> None:
    """However late in the cleanup it comes."""
    end = netns.end
    monkeypatch.setattr(interrupts, "UNWINDING", unwinding)

    def interrupted_end(processes: Any, grace: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        end(processes, grace)

    monkeypatch.setattr(netns, "end", interrupted_end)

    def interrupt() -> None:
        with Rig() as rig:
            rig.popen(rig.host(1), ["sleep", "60"])
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the signal was lost")

    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_an_interrupt_that_got_lost_can_be_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt() -> None:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

    with Rig():
        interrupt()
        os.kill(os.getpid(), signal.SIGINT)  # too soon: it is being obeyed
        monkeypatch.setattr(interrupts, "UNWINDING", 0)
        interrupt()


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Rig():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


# ---- whole processes -----------------------------------------------------------------


SCRIPT = """
import subprocess, sys
from flannelette.benchmarks.rig import Rig
with Rig(int(sys.argv[1])) as rig:
    for number in rig.numbers:
        rig.popen(rig.host(number), ["sleep", "60"])
    print("up", flush=True)
    rig.popen(rig.host(1), ["sleep", "60"]).wait()
"""


@pytest.mark.parametrize("seed", range(6))
def test_a_program_hit_by_signals_at_random_leaves_nothing(seed: int) -> None:
    """One signal at any moment from the first import on, and soon another."""
    rng = random.Random(seed)
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "8"],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        until(lambda: namespaces(f"fl{process.pid}-") or process.poll() is not None)
        for _ in range(2):
            time.sleep(rng.uniform(0, 0.05))  # not a wait: the moment is the test
            if process.poll() is None:
                process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
        assert process.wait(20) in (-signal.SIGINT, 128 + signal.SIGTERM)
    assert namespaces(f"fl{process.pid}-") == []
    until(lambda: not marked(mark))


def test_a_program_that_exits_without_closing_leaves_nothing() -> None:
    code = (
        "from flannelette.benchmarks.rig import Rig; rig = Rig().__enter__();"
        "rig.popen(rig.host(1), ['sleep', '60']); print(rig.host(1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("-1-h1\n")
    assert namespaces(done.stdout.removesuffix("-1-h1\n")) == []
