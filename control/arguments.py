"""What the lines of commands have in common: their parser, and where the daemon is.

`run` has flanneld's flags and a parser of its own (config.py).
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from flannelette.control import config, flags
from flannelette.control.errors import ConfigError


class _Formatter(argparse.HelpFormatter):
    """argparse's, but lines break at spaces alone: names such as FLANNEL-FWD stay
    whole, as they are searched for."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = self._split_lines(text, width - len(indent))
        return "\n".join(indent + line for line in lines)


class Parser(argparse.ArgumentParser):
    """argparse, with our way to say that something is wrong."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            f"flannelette {command}",
            description=description,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)

    def parsed(self, argv: Sequence[str]) -> argparse.Namespace | None:
        """What argv says; None if it asked for help, which was printed.

        Raises ConfigError."""
        try:
            return self.parse_args(argv)
        except SystemExit:
            return None

    def add_operator_socket(self) -> None:
        """Flags that say which daemon is meant, for operator_socket()."""
        where = self.add_mutually_exclusive_group()
        where.add_argument("--operator-socket", type=Path, metavar="PATH")
        where.add_argument("--subnet-file", type=Path, metavar="PATH")

    def add_filter(self) -> None:
        """Words behind all flags."""
        self.add_argument(
            "filter",
            nargs="*",
            metavar="FILTER",
            help="which packets of the overlay, in tcpdump's language, pcap-filter(7); "
            "all unless told",
        )


def count(text: str) -> int:
    """A whole number, not negative. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def operator_socket(wanted: argparse.Namespace, environ: Mapping[str, str]) -> Path:
    """Where the daemon listens, if it was started with these flags or variables."""
    path: Path | None = wanted.operator_socket
    subnet_file: Path | None = wanted.subnet_file
    if path is None and subnet_file is None:
        if text := environ.get(f"{flags.ENVIRONMENT}OPERATOR_SOCKET"):
            path = Path(text)
        elif text := environ.get(f"{flags.ENVIRONMENT}SUBNET_FILE"):
            subnet_file = Path(text)
    if path is not None:
        return path
    return config.operator_socket(subnet_file or Path(flags.DEFAULT_SUBNET_FILE))
