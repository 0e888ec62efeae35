"""The sample's document with every text that it has made evil."""

from __future__ import annotations

from typing import Any

import msgspec

from flannelette.benchmarks import results
from flannelette.benchmarks.labdocument import Document
from flannelette.benchmarks.results import Place, Results
from tests.helpers.labsample import RUN, WIRE, document, ladder

EVIL = "</script><script>window.owned = 1</script><img src=x onerror=owned()>&amp;\"'"


def _evil(value: Any) -> Any:
    """Every text of a document of plain data made evil, names of fields apart."""
    if isinstance(value, str):
        return value + EVIL
    if isinstance(value, list):
        return [_evil(each) for each in value]
    if isinstance(value, dict):
        return {key: _evil(each) for key, each in value.items()}
    return value


def evil_document() -> Document:
    """Each text that a browser might take for markup has EVIL at its end."""
    plain = msgspec.json.decode(msgspec.json.encode(document()))
    plain.pop("ladder")
    rungs = plain.pop("rungs")
    made = _evil(plain)
    made["machine"] = {key + EVIL: text for key, text in made["machine"].items()}
    made["rungs"] = rungs
    for each in rungs:
        for key in ("name", "title", "switched", "gain", "flags"):
            each[key] = _evil(each[key])
        for check in each["checks"]:
            check |= _evil({"what": check["what"], "source": check["source"]})
    names = {
        old.name: new["name"] for old, new in zip(document().rungs, rungs, strict=True)
    }
    found = Results(RUN + EVIL, EVIL, {}, {"rounds" + EVIL: EVIL})
    for figure in ladder():
        place = Place(WIRE + EVIL, names[figure.place.contender], figure.place.metric)
        for value in figure.values:
            found.add(place, value)
    made["ladder"] = msgspec.json.decode(results.dump(found))
    return msgspec.json.decode(msgspec.json.encode(made), type=Document)
