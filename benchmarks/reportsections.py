"""The sections of the report, as HTML. Its head is reporthead.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from flannelette.benchmarks import reporttables as tables
from flannelette.benchmarks.labdocument import Document, Rung, TimerCost
from flannelette.benchmarks.reportcharts import Json
from flannelette.benchmarks.reporthtml import Html, tag
from flannelette.benchmarks.reportjourney import (
    GAP,
    MOST_DRAWN,
    Total,
    number,
    totals,
)
from flannelette.benchmarks.reportsteps import Change, changes
from flannelette.benchmarks.results import Results

WIRES = {
    "nic": "segments TCP and UDP, but knows no tunnels, like a common NIC",
    "plain": "segments nothing, like an old or virtual NIC",
    "veth": "between containers: nothing is ever segmented",
}


# ---- the journey ---------------------------------------------------------------------


def journey(rungs: Sequence[Rung]) -> Html:
    """The picture, and below it what each rung's journey costs."""
    return _section(
        "journey",
        "The journey of one packet",
        tag(
            "p",
            "A packet of one TCP flow goes from the app on the first host to the app"
            " on the second. Where it passes the border between a program and the"
            " kernel there is a system call, and the call copies it.",
        ),
        tag(
            "figure",
            tag("div", id="picture"),
            tag(
                "figcaption",
                "A square is a packet: so many pass in one call on average, hollow"
                f" ones in theory only ({MOST_DRAWN} are drawn at most). Numbers are"
                " per packet, and measured unless it is said.",
            ),
            class_="picture",
        ),
        tag(
            "p",
            tag("button", "Send a packet", id="play", type="button", disabled=True),
            tag("output", id="slow", for_="play"),
            class_="play",
        ),
        *(_costs(rung) for rung in rungs),
    )


def _costs(rung: Rung) -> Html:
    switched = tag("p", "Switched: ", rung.switched, ".") if rung.switched else None
    flags = (tag("code", flag) for flag in rung.flags or ())
    return tag(
        "article",
        tag("h3", tag("span", rung.name, class_="badge"), rung.title),
        switched,
        tag("p", *flags) if rung.flags else None,
        tag("dl", *map(_total, totals(rung)), class_="totals"),
        tables.crossings(rung),
        class_="rung",
        data_rung=rung.name,
    )


def _total(total: Total) -> Html:
    theory = (
        (tag("i", number(total.theory)), tag("small", "in theory, without them"))
        if total.theory is not None
        else ()
    )
    return tag(
        "div",
        tag("dt", total.title, tag("small", total.about)),
        tag(
            "dd",
            tag("b", number(total.measured)),
            tag("small", "measured"),
            *theory,
        ),
    )


# ---- the ladder ----------------------------------------------------------------------


def ladder(document: Document, found: Results, panels: Sequence[Json]) -> Html:
    """The charts, and what each step has changed and why."""
    return _section(
        "ladder",
        "The ladder",
        tag(
            "p",
            "In the whole ladder every rung differs from the one before it by one"
            " thing. Large marks are medians, small ones the rounds, and the line is"
            " their range.",
        ),
        _switch(
            "scale",
            "Scale",
            {"auto": "as suits", "linear": "from zero", "log": "logarithmic"},
        ),
        tag("div", *map(chart, panels), class_="charts")
        if panels
        else tag("p", "Nothing was measured.", class_="gap"),
        tag("h3", "Step by step"),
        tag(
            "p",
            "In colour: what is better or worse in every round of one rung than in any"
            " of the other.",
        ),
        tag("ol", *_steps(document, found), class_="steps"),
    )


def _steps(document: Document, found: Results) -> Iterable[Html]:
    before: Rung | None = None
    for rung in document.rungs:
        differences = (
            changes(found, document.wire, before, rung) if before is not None else []
        )
        yield tag(
            "li",
            tag("h4", tag("span", rung.name, class_="badge"), rung.title),
            tag("p", rung.gain),
            tag("ul", *_changes(before, differences), class_="changes")
            if before is not None and differences
            else None,
            data_rung=rung.name,
        )
        before = rung


def _changes(before: Rung, differences: Sequence[Change]) -> Iterable[Html]:
    once = all(change.verdict == "open" for change in differences)
    against = f"compared with {before.name}{', in one round' if once else ''}:"
    yield tag("li", against, class_="same")
    for change in differences:
        factor = tag("b", _times(change.factor))
        if change.verdict == "open" and not once:
            yield tag("li", factor, change.title, " (one round)", class_="same")
        elif change.verdict != "none":
            yield tag("li", factor, change.title, class_=change.verdict)
    unclear = [change.title for change in differences if change.verdict == "none"]
    if unclear:
        yield tag("li", "no clear change: ", ", ".join(unclear), class_="same")


def _times(factor: float) -> str:
    """A factor of 0 is from something to nothing."""
    if factor >= 1 or not factor:
        return f"\N{MULTIPLICATION SIGN} {number(factor)}"
    return f"÷ {number(1 / factor)}"


def chart(panel: Json) -> Html:
    """The place of a chart; who does not see it hears its numbers."""
    return tag(
        "figure",
        tag("figcaption", panel["title"], tag("small", panel["unit"])),
        tag("div", id=panel["id"], role="img", aria_label=panel["said"]),
        class_="chart",
    )


# ---- time, machine, numbers, notes ---------------------------------------------------


def time(document: Document, charts: Sequence[Json]) -> Html:
    """Where it goes, and what it costs to know."""
    return _section(
        "time",
        "Where the time goes",
        tag(
            "p",
            "The daemon's fast path looks at the clock between its stages, in some of"
            " its rounds. ",
            tag("b", "read, send, receive"), " and ", tag("b", "write"),
            " are system calls: the kernel's time, copying included. The others are"
            " the daemon's own.",
        ),
        _switch("bars", "Bars", {"time": "nanoseconds", "share": "shares"})
        if charts
        else tag("p", "No stage was timed in this run.", class_="gap"),
        tag("div", *map(chart, charts), class_="charts"),
        tag("p", _timers(document.timers)),
    )  # fmt: skip


def _timers(cost: TimerCost | None) -> str:
    if cost is None or not cost.on or not cost.off:
        return "What the timers themselves cost was not measured in this run."
    off, on = map(median, (cost.off, cost.on))
    return (
        f"The timers are off unless asked for. Taking the time of one round in"
        f" {cost.every} on the rung {cost.rung} gave {number(on)} Gbit/s of TCP,"
        f" without it {number(off)} ({_range(cost.on)} and {_range(cost.off)})."
    )


def _range(values: Sequence[float]) -> str:
    return f"{number(min(values))} to {number(max(values))}"


def machine(document: Document, ladder: Results) -> Html:
    """What must be known about where it was measured."""
    facts = dict(document.machine)
    facts["wire"] = f"{document.wire}: {WIRES.get(document.wire, 'not known')}"
    facts["offloads granted"] = ", ".join(document.offloads) or "none"
    facts |= {f"setting: {name}": text for name, text in ladder.settings.items()}
    facts["run"] = f"{ladder.run}, {ladder.started}, {document.seconds:.0f} s"
    listed = (
        tag("div", tag("dt", key), tag("dd", text)) for key, text in facts.items()
    )
    return _section(
        "machine",
        "The machine",
        tag("dl", *listed, class_="machine"),
        tag("h3", "To repeat this"),
        tag(
            "p",
            tag("code", document.command, id="command"),
            tag("button", "Copy", id="copy", type="button"),
            class_="command",
        ),
    )


def numbers(document: Document, ladder: Results) -> Html:
    """All of them."""
    return _section(
        "numbers",
        "Every number",
        tag(
            "p",
            "Medians over the rounds, and half of what lies between the least and the"
            " most as a share of the median. ",
            tag("b", GAP), " was not measured.",
        ),
        tables.medians(document, ladder),
        tables.stages(document),
        tables.checks(document),
        tables.rounds(ladder),
    )  # fmt: skip


def notes(document: Document) -> Html:
    """What is to be known before anything of this is believed."""
    return _section(
        "notes",
        "Honest notes",
        tag(
            "ul",
            *(tag("li", note) for note in document.notes),
            tag(
                "li",
                "Measured means counted by the daemons in their system calls, or by"
                " the kernel where it is said. In theory means calculated from how a"
                " rung works, at its best; it is not measured.",
            ),
        ),
    )


def _section(name: str, title: str, *children: Html | None) -> Html:
    heading = tag("h2", title, id=f"{name}-title")
    return tag("section", heading, *children, id=name, aria_labelledby=f"{name}-title")


def _switch(name: str, legend: str, choices: dict[str, str]) -> Html:
    """A choice of a few; the first is on."""
    buttons = (
        tag(
            "label",
            tag("input", type="radio", name=name, value=value, checked=not order),
            tag("span", text),
        )
        for order, (value, text) in enumerate(choices.items())
    )
    return tag("fieldset", tag("legend", legend), *buttons, class_="switch")
