"""`flannelette top`: a live view of the daemon on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from flannelette.control.arguments import Parser, operator_socket
from flannelette.control.errors import ConfigError
from flannelette.control.observe.extras import need

_EPILOG = (
    "bit/s and bytes are of IP packets, without outer headers. /burst: packets in one "
    "message through a socket (UDP GSO and GRO); /frame: packets in one frame through "
    "the TUN (its offloads); /call: packets moved by one system call. sockets: how "
    "full the receiving ones are, by queue and IP version. drops: packets by reason, "
    "a second and in all; 'socket full' and 'TUN full' are the kernel's, which had no "
    "room because we read too slowly. idle: since something came from the peer."
)


def main(argv: Sequence[str]) -> int:
    """Raises ConfigError, also without a terminal, HostError without textual."""
    parser = Parser("top", "Watch what the daemon on this machine does.")
    parser.epilog = _EPILOG
    parser.add_operator_socket()
    parser.add_argument(
        "--interval",
        type=_interval,
        default=1.0,
        metavar="SECONDS",
        help="between two looks, 0.1 to 3600; 1 unless told",
    )
    wanted = parser.parsed(argv)
    if wanted is None:
        return 0
    if not _on_a_terminal():
        raise ConfigError("top needs a terminal; flannelette status does not")
    need("textual", "top")

    from flannelette.control.top import screen

    return screen.main(operator_socket(wanted, os.environ), wanted.interval)


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not within 0.1 to 3600")
    return seconds


def _on_a_terminal() -> bool:
    """Keys come from stdin, and what is drawn goes to stderr; where stdout leads
    elsewhere, somebody wants to read it."""
    if os.environ.get("TERM", "dumb") == "dumb":
        return False
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in streams)
