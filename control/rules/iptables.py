"""The rules in iptables, through iptables-save and iptables-restore, of whichever
variant is installed (legacy or nft).

flannel-behaviour.md 8.1, 8.2, M1 to M3. Ours are the chains FLANNEL-POSTRTG in table
nat and FLANNEL-FWD in table filter, and in the built-in chains the rules with the
comment that flannel gives its own: at most one, the jump. So rules that older flannels
left there go, and one that somebody else wrote stays, even one that jumps to our chain.

One iptables-save says all that is there; what differs is changed by one
iptables-restore, which commits a table at once. flannel asks for each rule by a process
of its own, and learns nothing of their order (M3, M4).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flannelette.control.rules.desired import (
    KUBE_MARK,
    Match,
    Rule,
    Rules,
    Topic,
    Version,
)
from flannelette.control.rules.tool import find, run

PROGRAMS: Mapping[Version, str] = {4: "iptables", 6: "ip6tables"}
LOCK_WAIT = 5
"""Seconds to wait for the lock, which whoever changes rules holds meanwhile."""
_MODERN = (1, 6, 2)
"""The first version whose restore knows --wait, and MASQUERADE --random-fully (8.1)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a topic's rules lie."""

    table: str
    builtin: str
    chain: str
    comment: str

    @property
    def jump(self) -> str:
        return f"-A {self.builtin} {_comment(self.comment)} -j {self.chain}"


def _comment(text: str) -> str:
    return f'-m comment --comment "{text}"'


PLACES: Mapping[Topic, Place] = {
    "masquerade": Place("nat", "POSTROUTING", "FLANNEL-POSTRTG", "flanneld masq"),
    "forward": Place("filter", "FORWARD", "FLANNEL-FWD", "flanneld forward"),
}


# ---- pure ----------------------------------------------------------------------------


def line(rule: Rule, place: Place) -> str:
    """The rule as iptables-save writes it."""
    words = [f"-A {place.chain}"]
    for option, match in ("-s", rule.source), ("-d", rule.destination):
        if match is not None:
            words.append(_address(option, match))
    if rule.marked:
        words.append(f"-m mark --mark {KUBE_MARK:#x}/{KUBE_MARK:#x}")
    words += [_comment(place.comment), f"-j {rule.verdict.upper()}"]
    if rule.fully_random:
        words.append("--random-fully")
    return " ".join(words)


def _address(option: str, match: Match) -> str:
    return f"{'! ' if match.negated else ''}{option} {match.network}"


def lines(rules: Rules, topic: Topic) -> list[str]:
    """Of the topic's own chain."""
    return [line(rule, PLACES[topic]) for rule in rules.of(topic)]


Words = frozenset[tuple[str, ...]]


def words(text: str) -> Words:
    """What a rule says, however it is spelled: its options, each with its values and
    its negation, in any order."""
    options: list[list[str]] = []
    negated = False
    try:
        split = shlex.split(text)
    except ValueError:  # an open quote: it is like no other
        return frozenset([(text,)])
    for word in split:
        if word == "!":
            negated = True
        elif word.startswith("-") and len(word) > 1:
            options.append(["!", word] if negated else [word])
            negated = False
        elif options:
            options[-1].append(word)
    return frozenset(map(tuple, options))


@dataclass(slots=True)
class Found:
    """What iptables-save tells of one topic."""

    chain: bool = False
    """It is there."""
    rules: list[str] = field(default_factory=list)
    """In our chain."""
    marked: list[str] = field(default_factory=list)
    """In the built-in chain, with our comment."""
    others: list[str] = field(default_factory=list)
    """Somebody else's rules that jump to our chain."""


def read(saved: str, place: Place) -> Found:
    """Find our part among thousands of lines."""
    found = Found()
    table = ""
    own, builtin = f"-A {place.chain} ", f"-A {place.builtin} "
    jumps = re.compile(f" -[jg] {re.escape(place.chain)}(?: |$)")
    for text in saved.splitlines():
        if text.startswith("*"):
            table = text[1:]
        elif table != place.table:
            continue
        elif text.startswith(f":{place.chain} "):
            found.chain = True
        elif text.startswith(own):
            found.rules.append(text)
        elif text.startswith(builtin) and _has(text, place.comment):
            found.marked.append(text)
        elif jumps.search(text):
            found.others.append(text)
    return found


def _has(text: str, comment: str) -> bool:
    """Is that its whole comment? Most rules need no second look."""
    return comment in text and ("--comment", comment) in words(text)


def change(found: Found, wanted: list[str], place: Place) -> list[str]:
    """Lines for iptables-restore that make it so, without their table; none if all is
    as it should be.

    The chain is only emptied, not removed, while somebody else's rule needs it."""
    jumps = [place.jump] if wanted else []
    sound = _same(found.rules, wanted) and _same(found.marked, jumps)
    if sound and (found.chain == bool(wanted) or found.others):
        return []
    changed = [f":{place.chain} - [0:0]"] if wanted or found.chain else []
    changed += [f"-D{text.removeprefix('-A')}" for text in found.marked]
    changed += [*wanted, *jumps]
    if not wanted and found.chain and not found.others:
        changed.append(f"-X {place.chain}")
    return changed


def _same(these: Iterable[str], those: Iterable[str]) -> bool:
    return [words(text) for text in these] == [words(text) for text in those]


def payload(changes: Mapping[Topic, list[str]]) -> str:
    """What iptables-restore reads."""
    parts = [
        "\n".join([f"*{PLACES[topic].table}", *changed, "COMMIT\n"])
        for topic, changed in changes.items()
        if changed
    ]
    return "".join(parts)


# ---- with the kernel -----------------------------------------------------------------


class IptablesBackend:
    """A RulesBackend."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.name = PROGRAMS[version]
        self._save = self._find("save")
        self._restore = self._find("restore")
        self._modern: bool | None = None

    def _find(self, what: str) -> str | None:
        variants = ("", "-nft", "-legacy")
        return find(*(f"{self.name}{variant}-{what}" for variant in variants))

    @property
    def raw(self) -> bool:
        """Does it speak with the kernel over raw sockets, as legacy does? A program
        that we do not know may."""
        path = self._restore
        return path is not None and "nft" not in os.path.basename(
            os.path.realpath(path)
        )

    def missing(self) -> str | None:
        there = {"restore": self._restore, "save": self._save}
        absent = [f"{self.name}-{what}" for what, path in there.items() if not path]
        return absent[0] if absent else None

    async def check(self, rules: Rules) -> None:
        changes = {
            topic: change(Found(), await self._lines(rules, topic), PLACES[topic])
            for topic in PLACES
        }
        await self._restored(payload(changes), "--test")

    async def apply(self, rules: Rules, everything: bool = False) -> list[str]:
        topics = [topic for topic in PLACES if everything or rules.of(topic)]
        if not topics:
            return []
        saved = await self._saved(topics)
        changes = {}
        for topic in topics:
            place = PLACES[topic]
            wanted = await self._lines(rules, topic)
            changes[topic] = change(read(saved, place), wanted, place)
        text = payload(changes)
        if text:
            await self._restored(text)
        return [
            f"chain {PLACES[topic].chain} in {self.name}'s table {PLACES[topic].table}"
            for topic, changed in changes.items()
            if changed
        ]

    async def _saved(self, topics: list[Topic]) -> str:
        """Of all tables that are in use, to ask for one would make it be; or of one
        that we use ourselves."""
        one = ["-t", PLACES[topics[0]].table] if len(topics) == 1 else []
        return await run([self._save or self.name, *one])

    async def _restored(self, text: str, *flags: str) -> None:
        if await self._is_modern():
            flags = (*flags, "--wait", str(LOCK_WAIT))
        await run([self._restore or self.name, "--noflush", *flags], text)

    async def _lines(self, rules: Rules, topic: Topic) -> list[str]:
        """Without what this version of iptables does not know yet."""
        wanted = lines(rules, topic)
        if wanted and not await self._is_modern():
            return [text.removesuffix(" --random-fully") for text in wanted]
        return wanted

    async def _is_modern(self) -> bool:
        if self._modern is None:
            said = await run([self._restore or self.name, "--version"])
            number = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
            self._modern = number is None or tuple(map(int, number.groups())) >= _MODERN
        return self._modern
