"""What iptables-save and ip6tables-save say, as chains (iptables(8)). Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network
from typing import Literal

from flannelette.control.doctor.firewall import (
    Chain,
    Condition,
    Packet,
    Rule,
    Verdict,
    negated,
    undecided,
)

Syntax = Literal["iptables", "ip6tables"]

_HOOKS = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "FORWARD": "forward",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}
_PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
_VERDICTS = {
    "ACCEPT": Verdict.ACCEPT,
    "DROP": Verdict.DROP,
    "REJECT": Verdict.DROP,
    "RETURN": Verdict.RETURN,
}
_DECIDE_NOTHING = ("LOG", "NFLOG", "MARK", "CONNMARK", "CHECKSUM", "TCPMSS", "CT")
_UNKNOWN_TARGETS = ("DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NFQUEUE", "TPROXY")


def chains(text: str, syntax: Syntax) -> list[Chain]:
    """All chains with their rules. Raises ValueError for what these do not write."""
    found: dict[tuple[str, str], Chain] = {}
    numbers: Counter[str] = Counter()  # of all rules, as iptables numbers them
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name, policy, *_ = line[1:].split()
            found[table, name] = _chain(syntax, table, name, policy)
        elif line.startswith("-A "):
            _, name, *words = [*shlex.split(line), ""]
            chain = found.get((table, name))
            if chain is None:
                raise ValueError(f"{syntax}-save is not understood: {line:.80}")
            numbers[chain.place] += 1
            chain.rules += _rules(words[:-1], f"rule {numbers[chain.place]}")
    return list(found.values())


def _chain(syntax: Syntax, table: str, name: str, policy: str) -> Chain:
    return Chain(
        syntax=syntax,
        family="ip" if syntax == "iptables" else "ip6",
        table=table,
        name=name,
        hook=_HOOKS.get(name, ""),
        priority=_PRIORITIES.get(table, 0),
        policy=Verdict.DROP if policy == "DROP" else Verdict.ACCEPT,
    )


def _rules(words: list[str], name: str) -> Iterator[Rule]:
    """The rule; or none, if it decides nothing."""
    conditions: list[Condition] = []
    negation = False
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "!":
            negation = True
            continue
        values = []
        while rest and rest[0] != "!" and not rest[0].startswith("-"):
            values.append(rest.pop(0))
        if word in ("-j", "-g"):
            (target,) = values
            yield from _verdict(word, target, tuple(conditions), name)
            return  # what follows are the target's own options
        condition = _condition(word, " ".join(values))
        if condition is not None:
            conditions.append(_negated(condition) if negation else condition)
        negation = False


def _verdict(
    word: str, target: str, conditions: tuple[Condition, ...], name: str
) -> Iterator[Rule]:
    if target in _VERDICTS:
        yield Rule(conditions, _VERDICTS[target], name)
    elif target in _UNKNOWN_TARGETS:
        yield Rule(conditions, Verdict.UNKNOWN, name)
    elif target not in _DECIDE_NOTHING:
        verdict = Verdict.GOTO if word == "-g" else Verdict.JUMP
        yield Rule(conditions, verdict, name, target)


def _negated(condition: Condition) -> Condition:
    return lambda packet: negated(condition(packet))


def _condition(word: str, value: str) -> Condition | None:
    """None: it asks nothing. What is not known here is undecided."""
    if word in ("-m", "--match", "--comment"):
        return None
    make = _CONDITIONS.get(word)
    return undecided if make is None else make(value)


def _interface(name: str, actual: str | None) -> bool | None:
    if actual is None:
        return None
    if name.endswith("+"):
        return actual.startswith(name[:-1])
    return actual == name


def _within(text: str, of: Callable[[Packet], object]) -> Condition:
    network = ip_network(text, strict=False)

    def condition(packet: Packet) -> bool | None:
        address = of(packet)
        return None if address is None else address in network

    return condition


def _ports(text: str, of: Callable[[Packet], int | None]) -> Condition:
    """`80`, `80:90`, or several with commas."""
    parts = (part.partition(":") for part in text.split(","))
    spans = [
        (int(low or 0), int((high or 65535) if colon else low))
        for low, colon, high in parts
    ]

    def condition(packet: Packet) -> bool | None:
        port = of(packet)
        if port is None:
            return None
        return any(low <= port <= high for low, high in spans)

    return condition


_CONDITIONS: Mapping[str, Callable[[str], Condition]] = {
    "-s": lambda value: _within(value, lambda packet: packet.source),
    "-d": lambda value: _within(value, lambda packet: packet.destination),
    "-i": lambda value: lambda packet: _interface(value, packet.iif),
    "-o": lambda value: lambda packet: _interface(value, packet.oif),
    "-p": lambda value: lambda packet: value in (packet.protocol, "all"),
    "--sport": lambda value: _ports(value, lambda packet: packet.source_port),
    "--dport": lambda value: _ports(value, lambda packet: packet.port),
    "--dports": lambda value: _ports(value, lambda packet: packet.port),
    "--sports": lambda value: _ports(value, lambda packet: packet.source_port),
    "--ctstate": lambda value: lambda _: "NEW" in value.split(","),
    "--state": lambda value: lambda _: "NEW" in value.split(","),
}
