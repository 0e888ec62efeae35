"""Running the programs that speak with the kernel's firewall."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from flannelette.control.errors import HostError
from flannelette.control.rules import tool
from tests.helpers.waiting import eventually

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
Loop = Callable[[], asyncio.AbstractEventLoop]


async def sh(script: str, text: str = "") -> str:
    return await tool.run(["sh", "-c", script], text)


def is_gone(pid: int) -> bool:
    """Ended, be it that nobody has asked how."""
    with suppress(FileNotFoundError, ProcessLookupError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "Z"
    return True


def test_a_program_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed, be it late or we in a hurry; conftest looks for what is left."""
    monkeypatch.setattr(tool, "DEADLINE", 0.1)
    with pytest.raises(tool.RulesBusy, match="sleep did not end"):
        asyncio.run(tool.run(["sleep", "1000"]))
    monkeypatch.setattr(tool, "DEADLINE", 1000)

    async def hurry() -> asyncio.Task[str]:
        running = asyncio.create_task(tool.run(["sleep", "1000"]))
        await asyncio.wait([running], timeout=0.1)
        running.cancel()
        await asyncio.wait([running])
        return running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(hurry()).result()
    with pytest.raises(FileNotFoundError) as caught:
        asyncio.run(tool.run(["/nonexistent/nft"]))
    assert caught.value.__notes__ == ["while starting /nonexistent/nft"]


@LOOPS
def test_what_is_said_and_what_is_complained_of(loop: Loop) -> None:
    async def body() -> None:
        long = "x" * 1_000_000
        assert await sh("cat", long) == long
        assert await sh("echo no >&2; true", long) == ""
        assert await sh(r"printf '\377'") == "\ufffd"
        with pytest.raises(HostError, match=r"^sh: no such thing$"):
            await sh("echo no such >&2; echo thing >&2; exit 3")
        with pytest.raises(HostError, match=r"^sh: 1: no$"):  # not "sh: sh: 1: no"
            await sh("echo sh: 1: no >&2; exit 2")
        with pytest.raises(HostError, match=r"^sh: exit 3$"):
            await sh("echo said; exit 3")
        with pytest.raises(HostError, match=r"^sh: x{300}$"):
            await sh("head -c 5000 /dev/zero | tr '\\0' x >&2; exit 1")
        with pytest.raises(tool.RulesBusy, match="is holding the xtables lock"):
            await sh("echo somebody is holding the xtables lock >&2; exit 4")

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(body())


@LOOPS
@pytest.mark.parametrize("in_our_group", [True, False])
@pytest.mark.parametrize("late", [True, False], ids=["late", "cancelled"])
def test_what_it_has_started_holds_nobody_up(
    loop: Loop,
    in_our_group: bool,
    late: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A grandchild keeps the streams open for longer than anybody waits: the event loop
    goes on, and the grandchild is killed unless it has left the process group."""
    monkeypatch.setattr(tool, "DEADLINE", 0.2 if late else 1000)
    pid = tmp_path / "pid"
    start = "" if in_our_group else "setsid "
    inner = f"echo \\$\\$ >{pid}.new; mv {pid}.new {pid}; exec sleep 100"

    async def body() -> None:
        running = asyncio.create_task(sh(f'{start}sh -c "{inner}" & sleep 100'))
        await eventually(lambda: running.done() or pid.exists())
        if not late:
            running.cancel()
        await eventually(running.done)
        with pytest.raises(tool.RulesBusy if late else asyncio.CancelledError):
            await running
        if not pid.exists():  # too late to have started it
            monkeypatch.setattr(tool, "DEADLINE", 2 * tool.DEADLINE)
            return await body()
        grandchild = int(pid.read_text())
        if not in_our_group:
            assert not is_gone(grandchild)
            os.kill(grandchild, signal.SIGKILL)
        await eventually(lambda: is_gone(grandchild), 20)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(body(), 60))


async def test_what_it_leaves_running_is_neither_waited_for_nor_killed(
    tmp_path: Path,
) -> None:
    pid = int(await asyncio.wait_for(sh("sleep 100 & echo $!"), 60))
    assert not is_gone(pid)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: is_gone(pid))


async def test_its_environment_is_ours_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLANNELD_ETCD_PASSWORD", "hush")
    monkeypatch.setenv("FLANNELD_ETCD_USERNAME", "me")
    said = await tool.run(["env"])
    assert "hush" not in said
    assert {"LC_ALL=C", "FLANNELD_ETCD_USERNAME=me"} <= set(said.splitlines())
