"""The lab's document: all that a run of `flannelette lab` found, and nothing drawn.

A rung is a contender of the bench (contenders.py), and its figures over the rounds are
the bench's own results (`ladder`). What the lab adds is counted, for one TCP flow from
the first pod to the second:

    app ─▶ kernel ─▶ daemon ─▶ kernel ══▶ kernel ─▶ daemon ─▶ kernel ─▶ app
       app_send   tun_read   wire_send     wire_receive   tun_write   app_receive

Each arrow is a Crossing of the border between kernel and userspace. The flow's packets
go `there`, its acknowledgements `back` by the same places in the other direction, so
there `tun_read` is the first host's and `wire_receive` the second's, and back it is the
other way round. Counts are totals of the counted run; per packet they are divided by
the packets that the crossing carried, Crossing.per_packet().

None is what was not counted or cannot be; never 0.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from flannelette.benchmarks import results
from flannelette.benchmarks.results import Results, ResultsError

FORMAT = 1
"""Of the JSON document; another number is another shape."""

PlaceName = Literal[
    "app_send", "tun_read", "wire_send", "wire_receive", "tun_write", "app_receive"
]
StageName = Literal[
    "read",
    "lookup",
    "split",
    "send",
    "receive",
    "check",
    "checksum",
    "merge",
    "write",
]
"""In the order of the way: the first four of tx, `write` of both (native/api.py)."""
KERNEL_PLACES: tuple[PlaceName, ...] = ("app_send", "app_receive")
"""The way of a packet that no daemon forwards."""
PLACES: tuple[PlaceName, ...] = get_args(PlaceName)


class Theory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the mechanism allows at best, per full packet; calculated, not measured."""

    bytes: float
    calls: float
    units: float


class Crossing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One place where packets pass between kernel and userspace, over the run."""

    place: PlaceName
    packets: int
    """Of the overlay, that passed; a superpacket is as many as it is cut into."""
    bytes: int | None
    """Copied between kernel and userspace, headers of the daemon's own included."""
    calls: int | None
    """System calls, those that found nothing included."""
    units: int | None
    """What the calls moved: frames at the TUN, messages at the socket."""
    theory: Theory | None
    """None where nothing can be said beforehand, such as of acknowledgements."""

    def per_packet(self, count: int | None) -> float | None:
        """One of the counts, per packet; None for None, and where nothing passed."""
        return None if count is None or not self.packets else count / self.packets


class Sleeper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A daemon of the counted run."""

    host: int
    """1 of the flow's source, 2 of its target."""
    wake_ups: int
    """Times that its threads had gone to sleep (voluntary context switches)."""
    preemptions: int
    """Times that they were made to wait (involuntary ones)."""
    pumps: int | None
    """That the daemon has begun. None: not counted."""
    seconds: float
    """Of processor time."""


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of TCP, one flow."""

    payload: int
    """Bytes that arrived."""
    seconds: float
    packets: int
    """Full packets of the overlay that the payload is: `there`, retransmissions
    apart."""
    there: tuple[Crossing, ...]
    """PLACES in that order; of a rung without a daemon KERNEL_PLACES."""
    back: tuple[Crossing, ...]
    """The acknowledgements', empty without a daemon."""
    daemons: tuple[Sleeper, ...]


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A count of the daemons' own beside the kernel's, over one run apart."""

    what: str
    """Such as "calls on the TUN", of both daemons."""
    source: str
    """Where the kernel has counted: tracepoints, or a file of /proc."""
    counted: int
    """By the daemons themselves."""
    traced: int
    """By the kernel."""


class Stages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the time of one direction of one daemon goes, sampled."""

    host: int
    direction: Literal["tx", "rx"]
    packets: int
    """Of the rounds that were timed."""
    nanoseconds: dict[StageName, int]
    """Of all those together."""

    def per_packet(self) -> dict[StageName, float]:
        """Nanoseconds per packet; empty where no packet was timed."""
        if not self.packets:
            return {}
        return {name: ns / self.packets for name, ns in self.nanoseconds.items()}


class Rung(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the ladder."""

    name: str
    """The contender's, by which `ladder` has its figures."""
    title: str
    """What it is, in a few words."""
    switched: str
    """What is different from the rung before; empty of the first."""
    gain: str
    """Two sentences: why that helps, and what is left."""
    flags: tuple[str, ...] | None
    """Of `flannelette run`; None: no daemon of ours."""
    mtu: int
    """Of the pods, bytes."""
    counts: Counts | None
    checks: tuple[Check, ...]
    stages: tuple[Stages, ...] | None
    """None: not timed (see the notes); else four: tx and rx of either host."""


class TimerCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What taking the time costs: TCP of one flow with and without, in turn."""

    rung: str
    every: int
    """One round of so many is timed."""
    off: tuple[float, ...]
    """Gbit/s, one a round."""
    on: tuple[float, ...]


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one run."""

    format: int
    command: str
    """That repeats it."""
    wire: str
    """What the rig's wire offloads (rig.py)."""
    seconds: float
    """That the whole run took."""
    machine: dict[str, str]
    """Names and texts, in the order in which to show them."""
    offloads: tuple[str, ...]
    """That this kernel grants the daemon."""
    ladder: msgspec.Raw
    """The bench's document (results.py); see `results`."""
    rungs: tuple[Rung, ...]
    """From the bottom of the ladder; only those that could be set up."""
    timers: TimerCost | None
    notes: tuple[str, ...]
    """What went wrong, could not be had or must be known, one line each; those of the
    ladder included."""

    def results(self) -> Results:
        """The figures over the rounds. Raises ResultsError."""
        return results.load(bytes(self.ladder))


class DocumentError(Exception):
    """A saved document cannot be used; the message is one line."""


def dump(document: Document) -> bytes:
    """As JSON that load() reads."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def load(text: bytes) -> Document:
    """Raises DocumentError for what dump() has not made."""
    try:
        document = msgspec.json.decode(text, type=Document)
        document.results()
    except (msgspec.DecodeError, ResultsError) as error:
        raise DocumentError(f"no document of flannelette lab: {error}") from None
    if document.format != FORMAT:
        raise DocumentError(f"a document of format {document.format}, not {FORMAT}")
    return document
