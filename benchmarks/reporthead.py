"""The head of the report: what it is about, what was found at a glance, which rung."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flannelette.benchmarks.labdocument import Document, Rung
from flannelette.benchmarks.reporthtml import Html, join, tag
from flannelette.benchmarks.reportjourney import UNITS, number
from flannelette.benchmarks.reportsteps import bottom_and_top, changes
from flannelette.benchmarks.results import Results

_HEADLINES = {
    "tcp1": "TCP, one flow",
    "syscalls": "system calls",
    "copies": "bytes copied for a byte delivered",
    "rtt": "round-trip time",
}
ABOUT = 0.1
MUCH = 3
"""What still counts as unchanged, and what as much more, in a sentence of the head."""


def header(document: Document, ladder: Results) -> Html:
    """What was measured where, and how far it is from the bottom to the top."""
    ends = bottom_and_top(document.rungs)
    return tag(
        "header",
        tag("p", "flannelette lab", class_="kicker"),
        tag("h1", "What does it cost to carry packets through userspace?"),
        tag(
            "p",
            "The same traffic over the same two hosts, one thing switched at a time."
            " Choose a rung of the ladder and follow a packet: where it crosses into"
            " the kernel and back, what is copied there, and what that costs.",
            class_="lead",
        ),
        _headlines(document, ladder, *ends) if ends else None,
        tag(
            "p",
            " · ".join(
                (
                    _date(ladder.started),
                    document.machine.get("machine", "machine not known"),
                    document.machine.get("kernel", "kernel not known"),
                    f"wire {document.wire}",
                    f"took {document.seconds:.0f} s",
                )
            ),
            class_="soft",
        ),
    )


def _headlines(document: Document, ladder: Results, low: Rung, high: Rung) -> Html:
    facts = []
    for metric, title in _HEADLINES.items():
        old = ladder.figure(document.wire, low.name, metric)
        new = ladder.figure(document.wire, high.name, metric)
        if old and new:
            facts.append(
                tag(
                    "div",
                    tag("dt", title),
                    tag(
                        "dd",
                        tag("span", number(old.median), class_="from"),
                        tag("span", "→", class_="arrow"),
                        tag("b", number(new.median)),
                        tag("small", UNITS[metric]),
                    ),
                )
            )
    if not facts:
        return Html()
    return join(
        tag("dl", *facts, class_="facts"),
        tag(
            "p",
            "From ", tag("b", low.name), f" ({low.title}) to ",
            tag("b", high.name), f" ({high.title}). ",
            _lesson(document, ladder, low, high),
            class_="soft",
        ),
    )  # fmt: skip


def _lesson(document: Document, ladder: Results, low: Rung, high: Rung) -> str | None:
    """What there is to see at once, if it is there to see."""
    found = {
        change.metric: change for change in changes(ladder, document.wire, low, high)
    }
    copies, tcp, calls = map(found.get, ("copies", "tcp1", "syscalls"))
    if not (copies and tcp and calls) or abs(copies.factor - 1) > ABOUT:
        return None
    if tcp.factor < MUCH or calls.factor > 1 / MUCH:
        return None
    return (
        "About as many bytes are copied as before, but the border is crossed far less"
        " often."
    )


def _date(iso: str) -> str:
    """For people; as it is if it is none."""
    try:
        return f"{datetime.fromisoformat(iso):%-d %B %Y, %H:%M %Z}"
    except ValueError:
        return iso


def choice(rungs: Sequence[Rung]) -> Html:
    """The control by which a rung is chosen."""
    ours = [rung for rung in rungs if rung.flags is not None]
    timed = [rung for rung in ours if rung.stages]
    first = next((rung.name for rung in (*timed, *ours, *rungs)), None)
    buttons = (
        tag(
            "label",
            tag(
                "input",
                type="radio",
                name="rung",
                value=rung.name,
                checked=rung.name == first,
            ),
            tag("span", rung.name),
            title=rung.title,
        )
        for rung in rungs
    )
    return tag("fieldset", tag("legend", "Rung"), *buttons, class_="rungs")
