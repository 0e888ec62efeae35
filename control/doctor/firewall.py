"""Would this machine's firewall drop a packet? Pure.

Rules are read from nft's JSON (nft.py) and from iptables-save (iptables.py) into one
form, and a packet is walked through the chains as the kernel does. Much of what rules
ask is not known here: marks, rates, limits, what an extension does. Every condition is
therefore true, false or undecided (None), and a packet counts as dropped only where no
undecided rule could have saved it before: a finding must be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

from flannelette.dataplane.asking import Address

_DEPTH = 16
"""Jumps into one another; the kernel allows as many (NFT_JUMP_STACK_SIZE)."""


@dataclass(frozen=True, slots=True)
class Packet:
    """The first of its flow, as a firewall sees it. None: not known here; an interface
    that it does not have is ""."""

    version: int
    protocol: str
    source: Address | None
    destination: Address | None
    source_port: int | None
    port: int | None
    iif: str | None
    oif: str | None


Condition = Callable[[Packet], bool | None]


class Verdict(Enum):
    ACCEPT = auto()
    DROP = auto()
    """Or reject."""
    JUMP = auto()
    GOTO = auto()
    RETURN = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Rule:
    conditions: Sequence[Condition]
    verdict: Verdict
    name: str
    """For a person, such as `the rule with handle 4`."""
    target: str = ""
    """The chain to jump or go to."""


@dataclass(slots=True)
class Chain:
    syntax: Literal["nft", "iptables", "ip6tables"]
    family: str
    """Of nft: ip, ip6, inet, netdev, ..."""
    table: str
    name: str
    hook: str = ""
    """Empty: only reached by jumps."""
    priority: int = 0
    policy: Verdict = Verdict.ACCEPT
    device: str = ""
    """Of the netdev family."""
    rules: list[Rule] = field(default_factory=list)

    @property
    def place(self) -> str:
        if self.syntax == "nft":
            return f"nft chain {self.family} {self.table} {self.name}"
        return f"{self.syntax} chain {self.name} (table {self.table})"

    def concerns(self, packet: Packet) -> bool:
        families = {4: ("ip", "inet", "netdev"), 6: ("ip6", "inet", "netdev")}
        if self.device and self.device != packet.iif:
            return False
        return self.family in families[packet.version]


@dataclass(frozen=True, slots=True)
class Block:
    """A packet is dropped for certain."""

    chain: Chain
    """The hook's own: it is there that an exception is to be made."""
    rule: str
    """What drops it."""


Chains = Mapping[tuple[str, str, str, str], Chain]
"""By syntax, family, table and name."""


def by_name(chains: Iterable[Chain]) -> Chains:
    return {(c.syntax, c.family, c.table, c.name): c for c in chains}


def blocked(chains: Chains, hooks: Sequence[str], packet: Packet) -> Block | None:
    """Where the packet ends on its way through those hooks, one after the other; None
    if it does not, or that cannot be told."""
    for hook in hooks:
        those = [c for c in chains.values() if c.hook == hook and c.concerns(packet)]
        for chain in sorted(those, key=lambda chain: chain.priority):
            walk = _Walk(chains, packet)
            verdict, name = walk.through(chain, 0)
            if verdict is Verdict.RETURN:
                verdict, name = chain.policy, "its policy"
            if verdict is Verdict.DROP and walk.sure:
                return Block(chain, name)
    return None


class _Walk:
    """One packet in one hook's chain."""

    def __init__(self, chains: Chains, packet: Packet) -> None:
        self.sure = True
        """No undecided rule so far could have let it pass."""
        self._chains = chains
        self._packet = packet

    def through(self, chain: Chain, depth: int) -> tuple[Verdict, str]:
        """What the chain decides, RETURN if nothing; and by which rule."""
        for rule in chain.rules:
            matches = every(condition(self._packet) for condition in rule.conditions)
            if matches is False:
                continue
            if matches is None or rule.verdict is Verdict.UNKNOWN:
                self.sure = self.sure and rule.verdict is Verdict.DROP
                continue
            if rule.verdict not in (Verdict.JUMP, Verdict.GOTO):
                return rule.verdict, rule.name
            verdict, name = self._jump(chain, rule.target, depth)
            if verdict is not Verdict.RETURN or rule.verdict is Verdict.GOTO:
                return verdict, name
        return Verdict.RETURN, ""

    def _jump(self, chain: Chain, target: str, depth: int) -> tuple[Verdict, str]:
        key = (chain.syntax, chain.family, chain.table, target)
        there = self._chains.get(key)
        if there is None or depth == _DEPTH:
            self.sure = False
            return Verdict.RETURN, ""
        verdict, name = self.through(there, depth + 1)
        return verdict, f"{name} of chain {target}"


# ---- true, false, or undecided -------------------------------------------------------


def every(values: Iterable[bool | None]) -> bool | None:
    undecided = False
    for value in values:
        if value is False:
            return False
        undecided = undecided or value is None
    return None if undecided else True


def some(values: Iterable[bool | None]) -> bool | None:
    return negated(every(negated(value) for value in values))


def negated(value: bool | None) -> bool | None:
    return None if value is None else not value


def undecided(_: Packet) -> None:
    """The condition of which nothing is known."""
