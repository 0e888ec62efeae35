"""What stands around the peers in `flannelette top`: the title, the summary, the keys.

Lines of text: pure, of a view and a terminal's size. A line is as long as it likes:
whoever shows it cuts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from flannelette.control.statusdocument import OUR_PATHS, NodeDocument, StatusDocument
from flannelette.control.text import LABEL, duration, plural, printable
from flannelette.control.top.model import View
from flannelette.control.top.style import BAD, DIM, GOOD, KEY, WARN, Part, labelled
from flannelette.control.top.traffic import Samples, traffic

_TALL = 34
"""Rows of a terminal that has room for charts."""


@dataclass(frozen=True, slots=True)
class Talk:
    """What is to be said besides the view."""

    interval: float
    """Seconds."""
    paused: bool
    trouble: str | None
    """Why there is no answer now."""


# ---- the title -----------------------------------------------------------------------


def title(shown: View | None, talk: Talk, width: int) -> Text:
    """Who answers, and how it is."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(" flannelette ", "bold")
    if talk.trouble is not None:
        text.append("● ", BAD).append("no daemon" if shown is None else "daemon lost")
    elif shown is None:
        text.append("○ asking")
    else:
        status = shown.status
        text.append(f"{printable(status['version'])}  ")
        ready = status["ready"]
        text.append("● ", GOOD if ready else WARN)
        text.append("ready" if ready else "not ready")
        text.append(f", up {duration(status['uptime'])}")
    right = "  PAUSED  "
    if not talk.paused:
        peers = f"peers {len(shown.peers):,}   " if shown else ""
        right = f"{peers}every {talk.interval:g} s "
    text.pad_right(max(1, width - text.cell_len - len(right)))
    return text.append(right, "bold black on yellow" if talk.paused else DIM)


def waiting(path: Path, talk: Talk) -> Text:
    """In place of everything, until a daemon has answered once."""
    if talk.trouble is None:
        return Text(f"asking the daemon at {printable(str(path))}", DIM)
    text = labelled("error", [(printable(talk.trouble), BAD)])
    return text.append("\n").append(" " * LABEL + "trying again", DIM)


# ---- the summary ---------------------------------------------------------------------


def summary(
    shown: View, samples: Samples, talk: Talk, width: int, height: int
) -> list[Text]:
    """What stands above the peers, for a terminal of that size."""
    tall = height >= _TALL
    status = shown.status
    lines = [*_errors(status, talk), *_facts(status, width, tall)]
    gap = [Text()] if tall else []
    if not shown.directions:
        lines.append(labelled("traffic", [_carried_by(status)]))
    else:
        lines += gap
        lines += traffic(shown, samples, width, tall)
    lines += gap
    if talk.trouble is not None:
        for line in lines[1:]:
            line.stylize(DIM)  # it was so, and may be no more
    # The title, the table's head and the help are shown too, and five peers, if three
    # lines remain.
    return lines[: max(0, min(3, height - 4), height - 9)]


def _errors(status: StatusDocument, talk: Talk) -> Iterator[Text]:
    if talk.trouble is not None:
        yield labelled("error", [(printable(talk.trouble), BAD)])
    if status["last_error"]:
        yield labelled("error", [(printable(status["last_error"]), BAD)])
    store = status["store"]
    if store and store["error"]:
        yield labelled("store", [(printable(store["error"]), BAD)])


def _facts(status: StatusDocument, width: int, tall: bool) -> Iterator[Text]:
    node = status["node"]
    yield labelled("node", [(printable(_node(node)), "")])
    lease, store = list(_lease(status)), list(_store(status))
    both = labelled("lease", [*lease, ("   store ", "bold"), *store])
    if both.cell_len <= width:
        yield both
    else:
        yield labelled("lease", lease)
        yield labelled("store", store)
    if tall:
        yield labelled("path", [(printable(_path(node)), "")])


def _node(node: NodeDocument) -> str:
    if node["public_ip"] is None:
        return "not known yet"
    port = f" port {node['port']}" if node["port"] else ""
    device = f"{node['device'] or 'no device'}, MTU {node['mtu']}"
    return (
        f"{node['public_ip']} by {node['interface']}, {node['backend']}{port}, {device}"
    )


def _path(node: NodeDocument) -> str:
    if node["datapath"] not in OUR_PATHS:
        return "the kernel" if node["datapath"] == "kernel" else "others"
    offloads = " ".join(node["offloads"]) or "none"
    queues = plural(node["queues"], "queue")
    return f"{node['datapath']}, {node['driver']}, {queues}, offloads: {offloads}"


def _carried_by(status: StatusDocument) -> Part:
    datapath = status["node"]["datapath"]
    if datapath == "kernel":
        return "the kernel carries the packets, and counts them", DIM
    if datapath not in OUR_PATHS:
        return "others carry the packets", DIM
    return "none yet", DIM


def _lease(status: StatusDocument) -> Iterator[Part]:
    lease = status["lease"]
    if lease is None:
        yield "none yet", WARN
        return
    yield ", ".join(filter(None, (lease["subnet"], lease["subnet6"]))), ""
    left = lease["expires_in"]
    if left is None:
        yield ", permanent", ""
    elif left <= 0:
        yield ", expired", BAD
    else:
        yield f", {duration(left)} left", ""


def _store(status: StatusDocument) -> Iterator[Part]:
    store = status["store"]
    if store is None:
        yield "not open yet", WARN
    elif store["connected"]:
        yield f"{store['kind']}, connected, revision {store['revision']}", ""
    else:
        yield f"{store['kind']}, ", ""
        yield "not connected", BAD


# ---- the keys ------------------------------------------------------------------------

_KEYS = (
    ("q", "quit"),
    ("p", "pause"),
    ("←→ 1-9", "sort"),
    ("r", "reverse"),
    ("↑↓ PgUp PgDn", "scroll"),
)


def keys(width: int) -> Text:
    """What the keys do: as many as have room."""
    text = Text(no_wrap=True)
    for key, does in _KEYS:
        item = Text.assemble((f" {key} ", KEY), f" {does}  ")
        if text.cell_len + item.cell_len <= width:
            text.append_text(item)
    return text
