"""`flannelette bench-restart`: what it says where it cannot measure."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from flannelette.benchmarks import restart, rootless
from flannelette.benchmarks.cluster import Cluster
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.restart import HOW, TAKE_OVER, Bench
from flannelette.benchmarks.rig import Rig


@pytest.mark.parametrize("missing", ["etcd", "ip", "iperf3"])
def test_without_a_program_nothing_is_begun(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tool(name: str) -> str:
        if name == missing:
            raise RigError(f"the program {name} is needed and not installed")
        return name

    def begin() -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(restart, "tool", tool)
    monkeypatch.setattr(rootless, "become_privileged", begin)
    assert restart.main([]) == 1
    out, err = capsys.readouterr()
    why = f"the program {missing} is needed and not installed"
    assert (out, err) == ("", f"flannelette bench-restart: {why}\n")


@pytest.mark.parametrize("how", HOW)
def test_a_daemon_that_does_not_end_is_an_error_in_one_line(how: str) -> None:
    class Endless:
        def send_signal(self, number: int) -> None:
            assert how != TAKE_OVER

        def wait(self, timeout: float) -> NoReturn:
            raise subprocess.TimeoutExpired("flannelette", timeout)

    def start_daemon(number: int, *flags: str) -> None:
        assert how == TAKE_OVER

    cluster: Any = SimpleNamespace(
        daemons={2: SimpleNamespace(process=Endless())}, start_daemon=start_daemon
    )
    bench = Bench(cast(Rig, None), cast(Cluster, cluster), cast(Any, ()))
    with pytest.raises(RigError, match=f"host 2's daemon did not end by {how}"):
        bench._restart(how, 2)
