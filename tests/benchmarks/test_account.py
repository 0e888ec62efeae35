"""The kernel's books: what their texts mean, and that ours are billed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flannelette.benchmarks import account
from flannelette.benchmarks.account import Books, Device
from tests.helpers.ns import until

STAT = """\
cpu  100 20 300 4000 50 6 7 8 9 0
cpu0 1 2 3 4 5 6 7 8 9 0
intr 1
"""
STATUS = """\
Name:\tx
voluntary_ctxt_switches:\t150
nonvoluntary_ctxt_switches:\t545
"""
DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo:    1000      10    0    0    0     0          0         0     1000      10    0
  eth0:  142000    1000    5    6    0     0          0         7   284000    2000    8
flannel0:50000      40    0    0    0     0          0         0    70000      60    0
"""


def test_machine_seconds() -> None:
    tick = os.sysconf("SC_CLK_TCK")
    busy, stolen = account.machine_seconds(STAT)
    assert busy == (100 + 20 + 300 + 6 + 7) / tick  # neither idle, iowait nor steal
    assert stolen == 8 / tick


def test_run_seconds() -> None:
    assert account.run_seconds("2500000000 17 3\n") == 2.5


def test_context_switches() -> None:
    assert account.context_switches(STATUS) == 695


def test_devices() -> None:
    found = account.devices(DEV)
    assert found["eth0"] == Device(426000, 3000)
    assert found["flannel0"] == Device(120000, 100)
    assert list(found) == ["lo", "eth0", "flannel0"]


def test_what_crossed_is_payload() -> None:
    assert account.handed_over(DEV, "flannel0") == 120000 + 426000 - 3000 * 42


def test_books_differ() -> None:
    assert Books(9.0, 5.0, 7, 100) - Books(8.0, 3.0, 1, 60) == Books(1.0, 2.0, 6, 40)


def test_our_own_work_is_billed() -> None:
    before = account.read([os.getpid()], None)
    digits = 10

    def billed() -> bool:
        str(7**digits)
        cost = account.read([os.getpid()], None) - before
        return cost.programs > 0.02 and cost.machine > 0.02

    until(billed)
    assert account.read([os.getpid()], None).switches >= before.switches > 0


def test_devices_of_this_machine() -> None:
    assert "lo" in account.devices(Path("/proc/net/dev").read_text())


def test_a_program_that_has_ended() -> None:
    with pytest.raises(FileNotFoundError):
        account.read([2**22 + 1], None)
