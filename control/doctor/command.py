"""`flannelette doctor`: why do two nodes not talk, and which command cures it?

It only looks: at the daemon, the store, this machine's devices, routes, settings and
firewall, and it asks the peers (look.py). What that means is decided by checks
(checks.py), and told worst first.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flannelette.control import config
from flannelette.control.doctor.checks import diagnose
from flannelette.control.doctor.facts import Cure, Facts, Finding, PeerFacts
from flannelette.control.doctor.look import look
from flannelette.control.errors import ConfigError
from flannelette.control.goflags import HelpWanted
from flannelette.control.text import WIDTH, printable
from flannelette.dataplane.asking import Answer, Outcome

USAGE = """\
Usage: flannelette doctor [--json] [flags of run]

Says what is wrong with this node and its peers, why, and what command cures it.
It changes nothing. Exit code 0: nothing is wrong; 1: something is.

With a daemon running, that one's own settings count, and the flags only say
where it is: --operator-socket=PATH or --subnet-file=FILE. Without one, give the
flags that the daemon is started with (flannelette run --help lists them).

  --json
      print all that was found as JSON"""

_INDENT = " " * 10
_WORDS = re.compile(r"""(?:'[^']*'|"[^"]*"|[^\s'"])+""")
"""Of a command line, with their quotes."""


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; its exit code. Raises ControlError or OSError."""
    logging.basicConfig(level=logging.CRITICAL)  # a finding says it better
    rest = [word for word in argv if word not in ("--json", "-json")]
    try:
        facts = asyncio.run(look(rest, environ))
    except HelpWanted:
        print(USAGE)
        return 0
    except config.VersionWanted:
        raise ConfigError("unknown flag: --version") from None
    findings = diagnose(facts)
    if len(rest) < len(argv):
        print(json.dumps(document(facts, findings), indent=2))
    else:
        print(render(facts, findings))
    return 1 if findings else 0


# ---- for programs --------------------------------------------------------------------


def document(facts: Facts, findings: Sequence[Finding]) -> dict[str, Any]:
    """What --json prints."""
    return {
        "findings": [_finding(it) for it in findings],
        "peers": [_peer(it) for it in facts.peers],
        "unchecked": list(facts.unchecked),
    }


def _finding(it: Finding) -> dict[str, Any]:
    return {
        "check": it.check,
        "severity": it.severity.name.lower(),
        "what": it.what,
        "cause": it.cause,
        "cure": {
            "command": it.cure.command,
            "on": None if it.cure.on is None else str(it.cure.on),
        },
    }


def _peer(it: PeerFacts) -> dict[str, Any]:
    """`probe` and the like are seconds, the reason of a refusal, or null: silence."""
    answered = isinstance(it.small, Answer)
    return {
        "address": str(it.peer.address),
        "port": it.peer.port or None,
        "subnets": [str(subnet) for subnet in it.subnets],
        "probe": _outcome(it.small),
        "full_probe": _outcome(it.full),
        "knows_us": it.small.known if isinstance(it.small, Answer) else None,
        "host": None if answered else _outcome(it.underlay),
        "overlay": {str(s): _outcome(each) for s, each in it.overlay.items()},
        "path_mtu": it.path_mtu,
    }


def _outcome(it: Outcome) -> float | str | None:
    if isinstance(it, Answer):
        return it.seconds
    return None if it is None else str(it.strerror)


# ---- for people ----------------------------------------------------------------------


def render(facts: Facts, findings: Sequence[Finding]) -> str:
    """Findings first; then what was asked, in lines of at most 80 columns. Commands
    are broken so that they can be pasted."""
    lines = list(_headline(findings))
    for number, it in enumerate(findings, 1):
        lines += ["", *_wrapped(it.what, f"{number:3}. {it.severity.name} ")]
        lines += _wrapped(it.cause, "     why  ")
        lines += _cure(it.cure)
    lines += ["", *_checked(facts)]
    return "\n".join(lines)


def _headline(findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        yield "Nothing is wrong."
    elif len(findings) == 1:
        yield "One finding:"
    else:
        yield f"{len(findings)} findings; cure the first, then look again:"


def _cure(cure: Cure) -> Iterator[str]:
    if cure.on is not None:
        yield f"     cure (on {cure.on})"
    yield from _command(cure.command, _INDENT if cure.on else "     cure ")


def _command(command: str, label: str) -> Iterator[str]:
    """Broken between words, by backslashes; a word that is too long stays whole."""
    line = label
    for word in _WORDS.findall(printable(command)):
        if line.strip() and len(line) + len(word) > WIDTH - 3 and line != label:
            yield f"{line.rstrip()} \\"
            line = _INDENT + "  "
        line += f"{word} "
    yield line.rstrip()


def _wrapped(text: str, label: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=label,
        subsequent_indent=_INDENT,
        break_on_hyphens=False,
    )


_MOST_PEERS = 20


def _checked(facts: Facts) -> Iterator[str]:
    """What the judgement rests on."""
    yield from _wrapped(", ".join(_node(facts)), "node      ")
    for it in facts.peers[:_MOST_PEERS]:
        yield from _wrapped(", ".join(_told(it)), "peer      ")
    if (more := len(facts.peers) - _MOST_PEERS) > 0:
        yield f"{_INDENT}and {more} more"
    for text in facts.unchecked:
        yield from _wrapped(text, "unchecked ")


def _node(facts: Facts) -> Iterator[str]:
    status = facts.status
    own = facts.external
    yield str(own.public_ip) if own else "no address"
    if own:
        yield f"by {own.name}"
    if facts.backend_type:
        yield facts.backend_type + (f" port {facts.port}" if facts.port else "")
    if facts.device:
        yield f"{facts.device} MTU {facts.mtus[0]}"
    if status and status["lease"]:
        yield status["lease"]["subnet"]
    yield "1 peer" if len(facts.peers) == 1 else f"{len(facts.peers)} peers"


def _told(it: PeerFacts) -> Iterator[str]:
    yield str(it.peer.address)
    if isinstance(it.small, Answer):
        yield f"answers in {it.small.seconds * 1000:.2f} ms"
        yield "knows us" if it.small.known else "does not know us"
        if isinstance(it.full, Answer):
            yield f"{it.needs} bytes pass"
    elif isinstance(it.small, OSError):
        yield str(it.small.strerror)
    elif it.alive:
        yield "no flannelette, but well"
    elif not it.peer.port and isinstance(it.underlay, Answer):
        yield "its host answers"
    else:
        yield "silent"
    if it.overlay:
        yield f"{len(it.alive)} of {len(it.overlay)} subnets answer"
