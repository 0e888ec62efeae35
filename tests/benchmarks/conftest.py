"""What tests of several files here start from."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from flannelette.benchmarks import interrupts, report
from flannelette.benchmarks.reporthtml import tag
from tests.helpers.ns import namespaces
from tests.helpers.rigs import MINE
from tests.helpers.running import Start, starter


@pytest.fixture
def start(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Start]:
    """The command is the test module's own COMMAND."""
    with starter(tmp_path_factory, request.module.COMMAND) as it:
        yield it


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report without the megabytes of plotly.js, for the parser's sake."""
    monkeypatch.setattr(report, "_plotly", lambda: tag("script", "plotly"))


@pytest.fixture
def rigs_end_clean() -> Iterator[None]:
    """No namespace, no handler of a signal and no thread elsewhere is left of a rig."""
    handlers = [signal.getsignal(number) for number in interrupts.SIGNALS]
    here = os.stat("/proc/thread-self/ns/net").st_ino
    yield
    assert namespaces(MINE) == []
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == handlers
    assert os.stat("/proc/thread-self/ns/net").st_ino == here
