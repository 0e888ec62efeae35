"""Commands that say much, or nothing, or never end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from flannelette.control import commands
from flannelette.control.errors import HostError


async def sh(script: str, text: str = "") -> str:
    return (await commands.run(["sh", "-c", script], os.environ, text)).strip()


def is_gone(pid: int) -> bool:
    """Has the process ended, be it that nobody has asked how?"""
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


async def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while not is_gone(pid):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_what_it_says_on_both_streams() -> None:
    assert await sh("echo; echo one; echo two >&2; echo ' '") == "one\ntwo"
    assert await sh("true") == ""
    assert await sh(r"printf '\377'") == "\ufffd"


async def test_what_it_reads_and_what_its_environment_is() -> None:
    assert await sh("cat", "two words\n") == "two words"
    assert await commands.run(["env"], {"A": "b c"}, "") == "A=b c\n"
    long = "x" * 1_000_000
    assert await sh("wc -c", long) == "1000000"
    assert await sh("echo done", long) == "done"


async def test_a_failure_says_how_and_why() -> None:
    with pytest.raises(HostError, match=r"^exit 3: no such thing$"):
        await sh("echo no such >&2; echo thing; exit 3")
    with pytest.raises(HostError, match=r"^exit 1$"):
        await sh("false")
    with pytest.raises(HostError, match=r"^killed by signal 15$"):
        await sh("kill -TERM $$")
    with pytest.raises(HostError, match=r"^exit 1: x{300}$"):
        await sh("head -c 5000 /dev/zero | tr '\\0' x; exit 1")


async def test_what_is_no_program() -> None:
    for name in ("/no/such/program", "no-such-program", "/", ""):
        with pytest.raises(OSError, match="Errno"):
            await commands.run([name], os.environ, "")


async def test_of_endless_output_the_beginning_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "OUTPUT_MOST", 1000)
    assert await sh("head -c 20000000 /dev/zero | tr '\\0' x") == "x" * 1000


async def test_it_is_killed_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it has started."""
    monkeypatch.setattr(commands, "DEADLINE", 0.3)
    pids = tmp_path / "pids"
    with pytest.raises(HostError, match="did not end in 0 s"):
        await sh(f"sleep 100 & echo $! $$ >{pids}; wait")
    for pid in pids.read_text().split():
        await until_gone(int(pid))


async def test_cancelled_it_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "own")
    task = asyncio.create_task(sh(f"echo $$ >{tmp_path}/own; exec sleep 100"))
    read = asyncio.to_thread((tmp_path / "own").read_text)
    pid = int(await asyncio.wait_for(read, 20))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_gone(pid)


async def test_what_it_leaves_running_is_not_waited_for() -> None:
    """A daemon that holds its stdout: flanneld waits for ever."""
    pid = int(await asyncio.wait_for(sh("sleep 100 & echo $!"), 20))
    assert not is_gone(pid)
    os.kill(pid, signal.SIGKILL)
    await until_gone(pid)
