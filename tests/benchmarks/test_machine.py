"""What is said of the machine, and whether something disturbs the measuring."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flannelette.benchmarks import machine
from tests.helpers.ns import until


def test_what_is_said_of_the_machine() -> None:
    found = machine.describe(None)
    assert found["machine"].startswith(f"{os.cpu_count()} x ")
    assert found["flanneld"] == "not there"
    assert len(found["load before"].split()) == 3


@pytest.mark.parametrize(
    ("busy", "stolen", "words"),
    [
        (0.05, 0.05, None),
        (0.5, 0.0, "other programs use 50% of the processors"),
        (0.0, 0.25, "the hypervisor takes 25% of the processors away"),
        (
            0.5,
            0.25,
            "other programs use 50% of the processors and the hypervisor",
        ),
    ],
)
def test_disturbance(busy: float, stolen: float, words: str | None) -> None:
    found = machine.disturbance(busy, stolen)
    assert (found or "").startswith(words or "")
    assert (found is None) == (words is None)


def test_a_disturbed_machine_is_noticed() -> None:
    code = "import time\nwhile time.process_time() < 20: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as burner:
        until(lambda: "other programs use" in (machine.noise() or ""))
        burner.kill()


def test_what_the_hypervisor_has_taken() -> None:
    with machine.stolen() as share:
        machine.noise()
    assert 0 <= share() <= 1
