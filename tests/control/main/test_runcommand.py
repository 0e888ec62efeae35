"""`flannelette run`: how the daemon is started, logs, and what it ends with."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from flannelette.control import config
from flannelette.control.config import Config
from flannelette.control.errors import HostError, LeaseLost
from flannelette.control.main import main
from flannelette.control.systemd import privileges
from tests.helpers import uvloops
from tests.helpers.commandline import Capture, assert_only_one_line

AgentFactory = Callable[[Callable[[Config], Any]], None]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> AgentFactory:
    """Puts a function in the place of the daemon, and logs as in a fresh process."""

    def replace(body: Callable[[Config], Any]) -> None:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
        monkeypatch.setattr(logging.getLogger("flannelette"), "level", logging.NOTSET)

        async def run(settings: Config, *_: object) -> None:
            result = body(settings)
            if asyncio.iscoroutine(result):
                await result

        fake = ModuleType("flannelette.control.agent")
        fake.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
        monkeypatch.setattr("flannelette.control.agent", fake, raising=False)
        monkeypatch.setattr(privileges, "give_up", lambda settings: None)  # not ours

    return replace


def test_run_runs_the_agent_on_uvloop(agent: AgentFactory, capsys: Capture) -> None:
    seen: list[Any] = []

    async def body(settings: Config) -> None:
        seen.extend([settings, type(asyncio.get_running_loop())])

    agent(lambda settings: body(settings))
    assert main(["run", "-iface", "eth7"]) == 0
    assert seen == [config.parse(["-iface", "eth7"], {}), uvloops.Loop]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (HostError("no TUN"), 1, "no TUN"),
        (LeaseLost("10.5.1.0/24 is taken"), 1, "10.5.1.0/24 is taken"),
        (OSError(errno.EPERM, "Operation not permitted"), 1, "[Errno 1] Operation"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "Broken pipe"),
    ],
    ids=str,
)
def test_an_error_of_the_agent_is_one_line(
    agent: AgentFactory, capsys: Capture, error: Exception, code: int, line: str
) -> None:
    def body(settings: Config) -> None:
        raise error

    agent(body)
    assert main(["run"]) == code
    assert_only_one_line(capsys, line)


def test_the_notes_of_an_oserror_stand_on_its_line(
    agent: AgentFactory, capsys: Capture
) -> None:
    def body(settings: Config) -> None:
        error = OSError(errno.EBUSY, "Device or resource busy")
        error.add_note("while opening\nthe TUN")
        error.add_note("try again")
        raise error

    agent(body)
    assert main(["run"]) == 1
    assert capsys.readouterr().err == (
        "flannelette: [Errno 16] Device or resource busy; "
        "while opening\\nthe TUN; try again\n"
    )


def test_a_fault_of_ours_is_not_hidden(agent: AgentFactory) -> None:
    agent(lambda settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["run"])


def test_an_early_interrupt_is_quiet(agent: AgentFactory, capsys: Capture) -> None:
    def body(settings: Config) -> None:
        raise KeyboardInterrupt

    agent(body)
    assert main(["run"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("verbosity", "levels"), [("0", ["INFO"]), ("1", ["DEBUG", "INFO"])]
)
def test_logs_go_to_stderr(
    agent: AgentFactory, capsys: Capture, verbosity: str, levels: list[str]
) -> None:
    def body(settings: Config) -> None:
        log = logging.getLogger("flannelette.control.agent")
        log.debug("lease: subnet=%s", "10.5.1.0/24")
        log.info("lease: subnet=%s", "10.5.1.0/24")
        logging.getLogger("pyroute2").debug("a book")

    agent(body)
    assert main(["run", "-v", verbosity]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line.split(maxsplit=3) for line in err.splitlines()]
    assert [line[0] for line in lines] == levels
    assert {line[3] for line in lines} == {"lease: subnet=10.5.1.0/24"}
