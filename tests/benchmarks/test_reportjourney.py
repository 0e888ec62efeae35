"""A packet's journey in the report: its totals, its picture and its times."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flannelette.benchmarks import reportjourney
from flannelette.benchmarks.labdocument import Document
from flannelette.benchmarks.reportjourney import GAP, number, picture, totals
from tests.helpers.labsample import WIRE, changed, document, ladder, rung

# ---- totals --------------------------------------------------------------------------


def test_totals_are_of_packets_and_acknowledgements() -> None:
    whole = document()
    copies, calls, wakes = totals(rung(whole, "tun"))
    counts = rung(whole, "tun").counts
    assert counts is not None
    crossed = sum(c.bytes or 0 for c in (*counts.there, *counts.back))
    assert copies.measured == pytest.approx(crossed / counts.payload)
    assert copies.theory == pytest.approx(6 * 1472 * counts.packets / counts.payload)
    daemons = (*counts.there[1:-1], *counts.back)
    made = sum(c.calls or 0 for c in daemons)
    assert calls.measured == pytest.approx(made / counts.packets)
    assert calls.theory == pytest.approx(2 / 42 + 2 / 43)
    assert wakes.measured == pytest.approx(5_000 / counts.packets)
    assert wakes.theory is None


def test_a_total_with_an_unknown_part_is_unknown() -> None:
    counts = rung(document(), "c").counts
    assert counts is not None
    first, *rest = counts.there
    uncounted = msgspec.structs.replace(first, bytes=None, theory=None)
    there = (uncounted, *rest)
    counts = msgspec.structs.replace(counts, there=there, daemons=())
    copies, calls, wakes = totals(rung(changed(document(), "c", counts=counts), "c"))
    assert (copies.measured, copies.theory, wakes.measured) == (None, None, None)
    assert calls.measured is not None


def test_no_daemon_makes_no_calls_and_never_wakes() -> None:
    _, calls, wakes = totals(rung(document(), "vxlan"))
    assert (calls.measured, wakes.measured) == (0, 0)


# ---- the picture ---------------------------------------------------------------------


def drawn(name: str, shown: Document) -> dict[str, Any]:
    crossings: Any = picture(rung(shown, name), 1.0)["crossings"]
    return {crossing["place"]: crossing for crossing in crossings}


def test_the_picture_has_as_many_squares_as_packets_in_a_call() -> None:
    read = drawn("tun", document())["tun_read"]
    assert (read["packets"], read["counted"]) == (40, True)
    assert read["lines"] == ["1,482\xa0B copied", "40.4 packets a call", "62\xa0ns"]
    read = drawn("c", document())["tun_read"]
    assert (read["packets"], read["counted"]) == (1, True)
    assert read["lines"][1:] == ["1.04 calls a packet", "1.24\xa0µs"]
    assert drawn("tun", document())["app_send"]["packets"] == 64


def test_the_picture_labels_theory() -> None:
    counts = rung(document(), "c").counts
    assert counts is not None
    first, *rest = counts.there
    there = (msgspec.structs.replace(first, calls=None), *rest)
    shown = changed(
        document(), "c", counts=msgspec.structs.replace(counts, there=there)
    )
    send = drawn("c", shown)["app_send"]
    assert (send["packets"], send["counted"]) == (64, False)
    assert send["lines"][-2:] == ["92.0 packets a call", "(in theory)"]


def test_the_kernels_way_has_two_crossings() -> None:
    assert list(drawn("vxlan", document())) == ["app_send", "app_receive"]
    assert picture(rung(document(), "vxlan"), None)["device"] == "flannel.1"
    assert picture(rung(document(), "none"), None)["device"] is None
    assert picture(rung(document(), "none"), None)["processor"] == GAP


# ---- numbers and times ---------------------------------------------------------------


def test_processor_time_is_the_machines_per_packet() -> None:
    found = reportjourney.processor_time(rung(document(), "c"), ladder(), WIRE)
    assert found == pytest.approx(26 * 1420)
    uncounted = rung(changed(document(), "c", counts=None), "c")
    assert reportjourney.processor_time(uncounted, ladder(), WIRE) == found
    assert reportjourney.processor_time(uncounted, ladder(), "veth") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, GAP), (0, "0"), (0.25, "0.25"), (1234.5, "1,234"), (12.34, "12.3")],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(None, GAP), (3.14, "3.1\xa0ns"), (999.0, "999\xa0ns"), (1000.0, "1.00\xa0µs")],
)
def test_times_have_the_unit_that_suits(nanoseconds: float | None, text: str) -> None:
    assert reportjourney.time(nanoseconds) == text
