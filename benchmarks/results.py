"""What a bench run found: figures, and the one rule about them.

A ratio is drawn between figures of one run only: two runs differ by the machine's mood,
which on a shared machine is worth more than many an optimization. So a figure knows its
run, ratio() is the only way to divide two, and it raises OtherRun.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

FORMAT = 1
"""Of the JSON document; another number is another shape."""


class ResultsError(Exception):
    """Saved results cannot be used as asked; the message is one line."""


class OtherRun(ResultsError):
    """A ratio between figures of different runs was asked for."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A thing that is measured."""

    key: str
    """In JSON."""
    title: str
    """At the head of a column."""
    unit: str


METRICS = (
    Metric("tcp1", "TCP 1", "Gbit/s"),
    Metric("tcp4", "TCP 4", "Gbit/s"),
    Metric("udp64", "UDP 64 B", "kpkt/s"),
    Metric("udp1400", "UDP 1400", "Gbit/s"),
    Metric("rtt", "RTT idle", "us"),
    Metric("rtt_p99", "p99", "us"),
    Metric("rtt_load", "RTT load", "us"),
    Metric("rtt_load_p99", "p99", "us"),
    Metric("daemons_gb", "daemons", "s/GB"),
    Metric("machine_gb", "machine", "s/GB"),
    Metric("daemons_mpkt", "daemons", "s/Mpkt"),
    Metric("machine_mpkt", "machine", "s/Mpkt"),
    Metric("copies", "copies", "B/B"),
    Metric("syscalls", "syscalls", "/pkt"),
    Metric("switches", "switches", "/pkt"),
    Metric("lookup", "lookup", "ns"),
    Metric("join", "join", "s"),
)
"""Throughput is of payload received. Costs per GB (10^9 bytes of payload), copies,
system calls and switches are those of one TCP flow, where a packet is a full one of the
overlay's MTU: superpackets neither flatter nor punish. Costs per million packets are
those of the 64 B stream at its loss-free rate. `daemons` is CPU time of the overlay's
own programs on both hosts, `machine` that of everything."""
_METRICS = {metric.key: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """What a figure is about."""

    wire: str
    contender: str
    metric: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one contender on one wire, over the rounds of one run."""

    run: str
    place: Place
    values: tuple[float, ...]
    """One a round, at least one."""

    def __post_init__(self) -> None:
        """Raises ResultsError for what is no figure."""
        if not self.values or self.place.metric not in _METRICS:
            raise ResultsError(f"no figure: {self.place}, values {self.values}")

    @property
    def metric(self) -> Metric:
        return _METRICS[self.place.metric]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half of what lies between the least and the most, as a share of the median;
        0 for one value, or where all are 0."""
        if not self.median:
            return 0.0
        return (max(self.values) - min(self.values)) / 2 / abs(self.median)


def ratio(one: Figure, other: Figure) -> float | None:
    """The first's median over the second's; None where that is 0.

    Raises OtherRun for figures of different runs, ValueError for different metrics."""
    if one.run != other.run:
        raise OtherRun(
            f"no ratio between figures of different runs ({one.run} and {other.run}):"
            " measure both in one run"
        )
    if one.place.metric != other.place.metric:
        raise ValueError(f"{one.place.metric} over {other.place.metric} means nothing")
    return one.median / other.median if other.median else None


@dataclass(frozen=True, slots=True)
class Results:
    """All of one run."""

    run: str
    started: str
    """ISO 8601, UTC."""
    machine: dict[str, str]
    settings: dict[str, str]
    notes: list[str] = field(default_factory=list)
    """What went wrong or could not be had, one line each."""
    _values: dict[Place, list[float]] = field(default_factory=dict)

    def add(self, place: Place, value: float) -> None:
        """One round's value."""
        self._values.setdefault(place, []).append(value)

    def note(self, text: str) -> None:
        """Said once, however often it happens."""
        if text not in self.notes:
            self.notes.append(text)

    def figure(self, wire: str, contender: str, metric: str) -> Figure | None:
        """None if it was not measured."""
        place = Place(wire, contender, metric)
        values = self._values.get(place)
        return None if values is None else Figure(self.run, place, tuple(values))

    def __iter__(self) -> Iterator[Figure]:
        for place, values in self._values.items():
            yield Figure(self.run, place, tuple(values))

    @property
    def wires(self) -> list[str]:
        """Those with figures, as first measured."""
        return list(dict.fromkeys(place.wire for place in self._values))

    def contenders(self, wire: str) -> list[str]:
        """Those with figures on that wire."""
        found = (place.contender for place in self._values if place.wire == wire)
        return list(dict.fromkeys(found))


class _Saved(msgspec.Struct, forbid_unknown_fields=True):
    """A figure in JSON."""

    wire: str
    contender: str
    metric: str
    unit: str
    median: float
    values: list[float]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    run: str
    started: str
    machine: dict[str, str]
    settings: dict[str, str]
    notes: list[str]
    figures: list[_Saved]


def dump(results: Results) -> bytes:
    """As a JSON document that load() reads."""
    figures = [
        _Saved(
            figure.place.wire,
            figure.place.contender,
            figure.place.metric,
            figure.metric.unit,
            figure.median,
            list(figure.values),
        )
        for figure in results
    ]
    document = _Document(
        FORMAT,
        results.run,
        results.started,
        results.machine,
        results.settings,
        results.notes,
        figures,
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def load(text: bytes) -> Results:
    """Raises ResultsError for what dump() has not made."""
    try:
        document = msgspec.json.decode(text, type=_Document)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ResultsError(f"no results of flannelette bench: {error}") from None
    if document.format != FORMAT:
        raise ResultsError(f"results of format {document.format}, not {FORMAT}")
    results = Results(
        document.run,
        document.started,
        document.machine,
        document.settings,
        document.notes,
    )
    for saved in document.figures:
        place = Place(saved.wire, saved.contender, saved.metric)
        for value in Figure(document.run, place, tuple(saved.values)).values:
            results.add(place, value)
    return results


def only_run(several: Iterable[Results]) -> Results:
    """The one among them, if all are of one run. Raises OtherRun if they are not."""
    found = {results.run: results for results in several}
    if len(found) != 1:
        raise OtherRun(
            f"no ratio between figures of different runs ({' and '.join(found)}):"
            " measure both in one run"
        )
    (results,) = found.values()
    return results
