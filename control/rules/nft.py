"""The rules in nftables, through `nft -j` (libnftables-json(5)).

flannel-behaviour.md 8.3. Ours are the tables `ip flannel-ipv4` and `ip6 flannel-ipv6`,
and of those the chains `postrtg` and `forward`; whatever else lies in a table of that
name is left alone. A change is one transaction that makes the chains anew: a packet
meets the old ones or the new.

As flannel's they are base chains of their own. So a forward rule accepts on behalf of
this table alone: where another table (Docker's, a firewall's) drops by policy, nftables
drops all the same, and `flannelette doctor` says which chain it is.

Unlike flannel's: a table is made only for an IP version that the overlay has;
kube-proxy's mark is looked for by its bit, as in iptables, since the other bits of the
mark are others'; and `fully-random` is not probed for, since every nft that reads JSON
knows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flannelette.control.errors import HostError
from flannelette.control.rules.desired import (
    KUBE_MARK,
    Match,
    Rule,
    Rules,
    Topic,
    Version,
)
from flannelette.control.rules.tool import find, run

TABLES: Mapping[Version, tuple[str, str]] = {
    4: ("ip", "flannel-ipv4"),
    6: ("ip6", "flannel-ipv6"),
}
"""Family and name."""
CHAINS: Mapping[Topic, Mapping[str, Any]] = {
    "masquerade": {
        "name": "postrtg",
        "type": "nat",
        "hook": "postrouting",
        "prio": 100,
        "policy": "accept",
    },
    "forward": {
        "name": "forward",
        "type": "filter",
        "hook": "forward",
        "prio": 0,
        "policy": "accept",
    },
}
"""srcnat is priority 100, filter is 0 (nft(8))."""

Object = Mapping[str, Any]


# ---- pure ----------------------------------------------------------------------------


def expression(rule: Rule, family: str) -> list[Object]:
    """The rule as statements, exactly as nft lists them."""
    statements: list[Object] = []
    if rule.marked:
        masked = {"&": [{"meta": {"key": "mark"}}, KUBE_MARK]}
        statements.append({"match": {"op": "==", "left": masked, "right": KUBE_MARK}})
    for field, match in ("saddr", rule.source), ("daddr", rule.destination):
        if match is not None:
            statements.append(_match(family, field, match))
    flags = {"flags": "fully-random"} if rule.fully_random else None
    statements.append({rule.verdict: flags})
    return statements


def _match(family: str, field: str, match: Match) -> Object:
    network = match.network
    prefix = {"addr": str(network.network_address), "len": network.prefixlen}
    return {
        "match": {
            "op": "!=" if match.negated else "==",
            "left": {"payload": {"protocol": family, "field": field}},
            "right": {"prefix": prefix},
        }
    }


def differing(listed: str | None, rules: Rules, everything: bool) -> list[Topic]:
    """Topics whose chain is not as it should be: there, alone, and with exactly these
    rules in this order. `listed` is what nft tells of our table, None: there is none.

    Raises ValueError for what nft does not write."""
    family, _ = TABLES[rules.version]
    there = _chains(listed)
    wrong: list[Topic] = []
    for topic, chain in CHAINS.items():
        found = there.get(chain["name"])
        if rules.of(topic):
            expressions = [expression(rule, family) for rule in rules.of(topic)]
            sound = found == (chain, expressions)
        else:
            sound = found is None or not everything
        if not sound:
            wrong.append(topic)
    return wrong


_Found = tuple[dict[str, Any], list[list[Object]]]


def _chains(listed: str | None) -> dict[str, _Found]:
    """Each chain's own members, and the statements of its rules."""
    found: dict[str, _Found] = {}
    try:
        objects = json.loads(listed)["nftables"] if listed is not None else []
        for each in objects:
            ((kind, body),) = each.items()
            if kind == "chain":
                names = CHAINS["masquerade"]
                members = {name: body[name] for name in names if name in body}
                found[body["name"]] = (members, [])
            elif kind == "rule":
                found[body["chain"]][1].append([_plain(it) for it in body["expr"]])
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ValueError(f"nft's list is not understood: {error!r}") from None
    return found


def _plain(statement: Object) -> Object:
    """Newer nft write one flag as a list of one."""
    match statement:
        case {"masquerade": {"flags": [str(flag)]}}:
            return {"masquerade": {"flags": flag}}
    return statement


def transaction(rules: Rules, topics: list[Topic], last: bool = False) -> str:
    """Commands that make those topics' chains what they should be. `last`: no chain
    will be left, so that the table goes as well."""
    family, name = TABLES[rules.version]
    table = {"family": family, "table": name}
    comment = f"rules for {name}"
    commands: list[Object] = [
        {"add": {"table": {"family": family, "name": name, "comment": comment}}}
    ]
    for topic in topics:
        chain = {**table, "name": CHAINS[topic]["name"]}
        # Added without a hook it may be there already, as whatever it is.
        commands += [{"add": {"chain": chain}}, {"flush": {"chain": chain}}]
        commands.append({"delete": {"chain": chain}})
        if not rules.of(topic):
            continue
        commands.append({"add": {"chain": {**table, **CHAINS[topic]}}})
        commands += [
            {"add": {"rule": {**table, "chain": chain["name"], "expr": expr}}}
            for expr in (expression(rule, family) for rule in rules.of(topic))
        ]
    if last:
        commands.append({"delete": {"table": {"family": family, "name": name}}})
    return json.dumps({"nftables": commands})


def only_ours(listed: str) -> bool:
    """Is there nothing in the table but our chains? Raises ValueError."""
    ours = {chain["name"] for chain in CHAINS.values()}
    kinds = [kind for each in json.loads(listed)["nftables"] for kind in each]
    others = [it for it in kinds if it not in ("metainfo", "table", "chain", "rule")]
    return not others and set(_chains(listed)) <= ours


# ---- with the kernel -----------------------------------------------------------------


class NftBackend:
    """A RulesBackend."""

    name = "nft"

    def __init__(self, version: Version) -> None:
        self.version = version
        self._program = find("nft")

    def missing(self) -> str | None:
        return None if self._program else "nft"

    async def check(self, rules: Rules) -> None:
        topics = [topic for topic in CHAINS if rules.of(topic)]
        await self._nft("--check", "--file", "-", text=transaction(rules, topics))

    async def apply(self, rules: Rules, everything: bool = False) -> list[str]:
        family, name = TABLES[self.version]
        try:
            listed = await self._listed()
            wrong = differing(listed, rules, everything)
            empty = not any(rules.of(topic) for topic in CHAINS)
            last = empty and everything and listed is not None and only_ours(listed)
        except ValueError as error:
            raise HostError(str(error)) from None
        if wrong or last:
            text = transaction(rules, wrong, last)
            await self._nft("--file", "-", text=text)
        names = [CHAINS[topic]["name"] for topic in wrong]
        chains = [f"chain {chain} in {family} {name}" for chain in names]
        return chains or ([f"table {family} {name}"] if last else [])

    async def _listed(self) -> str | None:
        """What there is; None if there is no table of ours."""
        family, name = TABLES[self.version]
        try:
            return await self._nft("list", "table", family, name)
        except HostError:  # the usual reason is looked for, whatever the words
            tables = json.loads(await self._nft("list", "tables", family))["nftables"]
            if any(it["table"]["name"] == name for it in tables if "table" in it):
                raise
            return None

    async def _nft(self, *arguments: str, text: str = "") -> str:
        return await run([self._program or self.name, "--json", *arguments], text)
