"""The lab's report: one HTML file with everything in it, which opens offline.

What it says is made here and in the modules named report*.py, as HTML that is complete
without scripts but for the drawings; how it looks and moves is in page/. The one
library is plotly.js, which comes with Python's plotly.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

from flannelette.benchmarks import (
    reportcharts,
    reporthead as head,
    reportsections as sections,
    reportstages,
)
from flannelette.benchmarks.labdocument import Document
from flannelette.benchmarks.reporthtml import Html, data, join, tag
from flannelette.benchmarks.reportjourney import picture, processor_time
from flannelette.control.observe.extras import need

_PAGE = Path(__file__).with_name("page")


def render(document: Document) -> str:
    """As one HTML file. What is missing in the document is shown as missing.

    Raises ResultsError for a document whose ladder is none, HostError without plotly.
    """
    ladder = document.results()
    wire, rungs = document.wire, document.rungs
    panels = reportcharts.panels(ladder, wire, rungs)
    times = reportstages.charts(rungs)
    pictures = [picture(rung, processor_time(rung, ladder, wire)) for rung in rungs]
    return Template(_read("page.html")).substitute(
        css=_read("page.css"),
        header=head.header(document, ladder),
        rungs=head.choice(rungs),
        journey=sections.journey(rungs),
        ladder=sections.ladder(document, ladder, panels),
        time=sections.time(document, times),
        machine=sections.machine(document, ladder),
        numbers=sections.numbers(document, ladder),
        notes=sections.notes(document),
        data=join(data("pictures", pictures), data("charts", panels + times)),
        # The charts come last, since a browser takes seconds for plotly.
        scripts=join(
            _script("journey.js"), _script("page.js"), _plotly(), _script("charts.js")
        ),
    )


def _plotly() -> Html:
    source: str = need("plotly.offline", "lab").get_plotlyjs()
    return tag("script", Html(source))


def _script(name: str) -> Html:
    """Names of one are not the others'."""
    return tag("script", Html(f'(() => {{ "use strict";\n{_read(name)}}})();'))


def _read(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")
