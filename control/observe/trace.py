"""`flannelette trace`: the next packets through the daemon, stage by stage."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence

from flannelette.control.arguments import Parser, count, operator_socket
from flannelette.control.errors import HostError
from flannelette.control.observe import text
from flannelette.control.observe.dissect import compile_filter, prepare
from flannelette.control.observe.following import Followed, Follower
from flannelette.control.observe.observer import Observer, observe, until_signalled
from flannelette.control.observe.protocol import Own
from flannelette.control.text import plural
from flannelette.dataplane.forwarder import Watch

SNAP = 256
"""Bytes of a packet that are looked at: its headers."""


def main(argv: Sequence[str]) -> int:
    """Raises ConfigError for a wrong filter, HostError, OSError."""
    parser = Parser(
        "trace",
        "Follow the next packets through the daemon, both ways: each stage with its "
        "time, and what became of them. Ctrl-C ends it.",
    )
    parser.add_argument(
        "--count",
        type=count,
        default=10,
        metavar="N",
        help="end after so many packets; 10 unless told, 0: no end",
    )
    parser.add_argument("--json", action="store_true", help="a document on each line")
    parser.add_operator_socket()
    parser.add_filter()
    wanted = parser.parsed(argv)
    if wanted is None:
        return 0
    program = compile_filter(" ".join(wanted.filter), "trace")
    prepare("trace")
    path = operator_socket(wanted, os.environ)
    with (
        observe(path, Watch(program, SNAP)) as observer,
        until_signalled(observer.finish),
    ):
        _trace(observer, wanted.count, wanted.json)
    return 0


def _trace(observer: Observer, wanted: int, as_json: bool) -> None:
    """Print packets until there were enough, or the observer has finished."""
    own, follower = observer.own, Follower(wanted)
    print(f"watching {own.device}; Ctrl-C ends it", file=sys.stderr, flush=True)
    printed, ended = 0, None
    try:
        for events in observer.rounds():
            printed += _show(follower.feed(events, time.time_ns()), own, as_json)
            if follower.done:
                break
    except HostError as error:
        ended = error
    printed += _show(follower.finish(), own, as_json)
    lost = observer.lost
    if as_json:
        print(json.dumps({"packets": printed, "lost": lost}), flush=True)
    else:
        told = f"{plural(printed, 'packet')}, {plural(lost, 'event')} lost"
        print(told, file=sys.stderr)
    if ended is not None:
        raise ended


def _show(packets: Iterable[Followed], own: Own, as_json: bool) -> int:
    """Print them; how many they were."""
    printed, styled = 0, sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for followed in packets:
        printed += 1
        if as_json:
            print(json.dumps(text.document(followed, own)))
        else:
            for line in text.lines(followed, own):
                print(_styled(line) if styled else line)
    sys.stdout.flush()
    return printed


def _styled(line: str) -> str:
    """For a terminal: a packet's first line is bold, a drop red (ECMA-48, SGR)."""
    if line.startswith("#"):
        return f"\x1b[1m{line}\x1b[0m"
    return f"\x1b[1;31m{line}\x1b[0m" if " DROPPED " in line else line
