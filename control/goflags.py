"""Command-line flags as Go's `flag` package reads them, for `flannelette run`.

flanneld's users write `-iface=eth0`, `--iface eth0` and `--ip-masq=false`; argparse
reads some of those otherwise (`--iface -eth`, `-v4`, abbreviations). The rules, from
the package's documentation: one dash or two; `-x=v` or `-x v`, where v may begin with
a dash; a boolean takes a value only after `=`; `--` ends the flags.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flannelette.control.errors import ConfigError


class HelpWanted(Exception):
    """-h or --help was among the flags."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: a row of the table that parsing and usage are made from."""

    name: str
    kind: Callable[[str], Any]
    """Reads a value; raises ValueError with the reason when it is wrong."""
    help: str
    """For the usage; the first `name` in back quotes is what its value is called."""
    default: str = ""
    """As one would write it; a repeated flag has none."""
    repeated: bool = False
    """Each occurrence adds one value; else the last one wins."""


_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_INTEGER = re.compile(
    "[+-]?(0[xX](_?[0-9a-fA-F])+|0[bB](_?[01])+|0[oO]?(_?[0-7])+|0|[1-9](_?[0-9])*)"
)


def boolean(text: str) -> bool:
    """Go's strconv.ParseBool. Raises ValueError."""
    if text not in _TRUE + _FALSE:
        raise ValueError("true or false is wanted")
    return text in _TRUE


def integer(text: str) -> int:
    """Go's strconv.ParseInt with base 0: 10, 0x0a, 0b1010, 0o12, 012 and 1_0.

    Raises ValueError."""
    if not _INTEGER.fullmatch(text):
        raise ValueError("a whole number is wanted")
    if len(text) > 150:  # 64 binary digits and their underscores need fewer
        raise ValueError("the number is too large")
    value = int(re.sub("^([+-]?)0(?=[0-7_])", r"\g<1>0o", text), 0)
    if not -(2**63) <= value < 2**63:
        raise ValueError("the number is too large")
    return value


def one_of(*choices: str) -> Callable[[str], str]:
    """A kind of flag: one of these words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{', '.join(choices[:-1])} or {choices[-1]} is wanted")
        return text

    return read


def from_argv(flags: Iterable[Flag], argv: Sequence[str]) -> dict[str, Any]:
    """The values of the flags that argv gives, by name.

    Raises ConfigError for the first thing that is wrong, HelpWanted for -h. Unlike
    flanneld, which ignores them, it refuses what follows the flags."""
    known = {flag.name: flag for flag in flags}
    given: dict[str, Any] = {}
    rest = list(argv)
    switch = ""  # the boolean just read, if nothing was said but its name
    while rest and len(rest[0]) > 1 and rest[0].startswith("-"):
        switch = ""
        argument = rest.pop(0)
        if argument == "--":
            break
        name, assigned, text = argument.removeprefix("-").partition("=")
        name = name.removeprefix("-")
        if not name or name.startswith("-"):
            raise ConfigError(f"bad flag syntax: {argument}")
        flag = known.get(name)
        if flag is None:
            if name in ("h", "help"):
                raise HelpWanted
            raise ConfigError(f"unknown flag: --{name}")
        if not assigned:
            if flag.kind is boolean:
                text, switch = "true", name
            elif not rest:
                raise ConfigError(f"flag --{name} needs a value")
            else:
                text = rest.pop(0)
        value = _read(flag, text, f"--{name}")
        given[name] = (*given.get(name, ()), value) if flag.repeated else value
    if rest:
        meant = f" (write --{switch}={rest[0]})"
        cure = meant if switch and rest[0] in _TRUE + _FALSE else ""
        raise ConfigError(f"unexpected argument: {rest[0]}{cure}")
    return given


def from_environ(
    flags: Iterable[Flag], environ: Mapping[str, str], prefix: str
) -> dict[str, Any]:
    """The values of those flags that the environment gives, by name (C1).

    An empty variable counts as absent; a repeated flag takes the variable as its one
    value. Raises ConfigError naming the variable, where flanneld only logs."""
    given: dict[str, Any] = {}
    for flag in flags:
        variable = prefix + flag.name.upper().replace("-", "_")
        if text := environ.get(variable):
            value = _read(flag, text, f"the variable {variable}")
            given[flag.name] = (value,) if flag.repeated else value
    return given


def defaults(flags: Iterable[Flag]) -> dict[str, Any]:
    """What each flag is when nobody gives it, by name."""
    return {
        flag.name: () if flag.repeated else flag.kind(flag.default) for flag in flags
    }


def usage(groups: Mapping[str, Iterable[Flag]]) -> str:
    """The flags under their groups' headings, in the tables' order."""
    lines: list[str] = []
    for heading, flags in groups.items():
        lines += ["", f"{heading}:"]
        for flag in flags:
            name = re.search("`(.*?)`", flag.help)
            text = flag.help.replace("`", "", 2)
            if flag.repeated:
                text += " (may be repeated)"
            elif flag.default and (flag.kind, flag.default) != (boolean, "false"):
                text += f" (default {flag.default})"
            lines.append(f"  --{flag.name}" + (f" {name[1]}" if name else ""))
            lines.append(textwrap.indent(_wrapped(text), " " * 6))
    return "\n".join(lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 74, break_on_hyphens=False, break_long_words=False)


def _read(flag: Flag, text: str, where: str) -> Any:
    try:
        return flag.kind(text)
    except ValueError as error:
        raise ConfigError(f"invalid value {text!r:.80} for {where}: {error}") from None
