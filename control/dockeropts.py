"""`flannelette docker-opts`: subnet.env as options for Docker's daemon.

What flannel's mk-docker-opts.sh does, with its options and its output:
flannel-behaviour.md D1 to D4. Docker's unit reads the output with EnvironmentFile, and
ours writes it with ExecStartPost, when subnet.env is there (D4). IPv6 is not in it.

Unlike the script this says what is wrong and exits 2 before it writes, where subnet.env
lacks a variable or has a value that is none, and exits 0 for help.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from flannelette.control import atomicfile, subnetfile
from flannelette.control.arguments import Parser
from flannelette.control.errors import ConfigError, HostError
from flannelette.control.flags import DEFAULT_SUBNET_FILE

_OUTPUT = "/run/docker_opts.env"
_ROUTES = Path("/proc/net/route")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Write the options. Raises ConfigError, HostError and OSError."""
    wanted = _parser().parsed(argv)
    if wanted is None:
        return 0
    if not _NAME.fullmatch(wanted.k):
        raise ConfigError(f"{wanted.k!r} cannot name a variable")
    variables = assigned(subnetfile.read(wanted.f), wanted.f)
    found = options(variables, wanted.f, ipmasq=not wanted.m)
    before = variables.get(wanted.k, environ.get(wanted.k, ""))
    both = wanted.i == wanted.c
    lines = individual(found) if wanted.i or both else []
    if wanted.c or both:
        lines.append(combined(found, wanted.k, before))
    _write(wanted.d, "".join(f"{line}\n" for line in lines))
    subnet = IPv4Interface(variables["FLANNEL_SUBNET"]).network
    gateway = gateway_of(subnet, _ROUTES.read_text())
    if gateway is not None:
        raise HostError(f"there is a route to {subnet} already, through {gateway}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "docker-opts",
        "Write the options that let Docker use this node's subnet, for its unit's "
        "EnvironmentFile. Without -i and -c it writes both.",
    )
    add = parser.add_argument
    source = Path(DEFAULT_SUBNET_FILE)
    add("-f", type=Path, default=source, help="what the daemon wrote (%(default)s)")
    add("-d", type=Path, default=Path(_OUTPUT), help="where to write (%(default)s)")
    add("-i", action="store_true", help="a variable for each option")
    add("-c", action="store_true", help="one variable for all, behind its value so far")
    add("-k", default="DOCKER_OPTS", help="the name of that variable (%(default)s)")
    add("-m", action="store_true", help="leave --ip-masq out")
    add("-?", action="help", help="show this")
    return parser


# ---- pure ----------------------------------------------------------------------------


def assigned(text: str, path: Path) -> dict[str, str]:
    """The variables that a shell would set from lines of KEY=VALUE (S3).

    Raises ConfigError."""
    variables = {}
    for line in text.split("\n"):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}: {line!r}") from None
        for word in words:
            name, equals, value = word.partition("=")
            if equals and _NAME.fullmatch(name):
                variables[name] = value
    return variables


def options(
    variables: Mapping[str, str], path: Path, ipmasq: bool
) -> list[tuple[str, str]]:
    """Names and options, in their order (D2). Docker masquerades where the daemon does
    not. Raises ConfigError for what is missing or wrong (D3)."""

    def value(name: str, form: str) -> str:
        if name not in variables:
            raise ConfigError(f"{path} has no {name}")
        if not re.fullmatch(form, variables[name], re.ASCII):
            raise ConfigError(f"{path}: invalid {name}: {variables[name]!r}")
        return variables[name]

    subnet = value("FLANNEL_SUBNET", r"[0-9.]+/[0-9]+")
    try:
        IPv4Interface(subnet)
    except ValueError as error:
        raise ConfigError(f"{path}: invalid FLANNEL_SUBNET: {error}") from None
    found = [("BIP", f"--bip={subnet}")]
    if ipmasq:
        daemons = value("FLANNEL_IPMASQ", "true|false") == "true"
        found.append(("IPMASQ", f"--ip-masq={'false' if daemons else 'true'}"))
    found.append(("MTU", f"--mtu={value('FLANNEL_MTU', '[0-9]+')}"))
    return found


def individual(options: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each option (D2)."""
    return [f'DOCKER_OPT_{name}="{option}"' for name, option in options]


def combined(options: Sequence[tuple[str, str]], key: str, before: str) -> str:
    """One line for all, behind what the variable held before (D2)."""
    kept = re.sub(r'(["\\$`])', r"\\\1", before)
    return f'{key}="{kept}{"".join(f" {option}" for _, option in options)}"'


def gateway_of(subnet: IPv4Network, table: str) -> IPv4Address | None:
    """The gateway of the route to exactly this subnet, if there is one, in a text like
    /proc/net/route: numbers in hexadecimal, addresses in the host's byte order."""
    for line in table.splitlines()[1:]:
        _, destination, gateway, _, _, _, _, mask, *_ = line.split()
        found = (_address(destination), _address(mask))
        if found == (subnet.network_address, subnet.netmask) and int(gateway, 16):
            return _address(gateway)
    return None


def _address(text: str) -> IPv4Address:
    return IPv4Address(int(text, 16).to_bytes(4, sys.byteorder))


# ---- files ---------------------------------------------------------------------------


def _write(path: Path, text: str) -> None:
    """Anew each time (D3). What is no file but, say, /dev/stdout stays what it is."""
    if not text.isascii():
        raise ConfigError("the variable's value before has letters beyond ASCII")
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        path.write_text(text)
    else:
        subnetfile.make_directory(path.parent)
        atomicfile.write(path, text)
