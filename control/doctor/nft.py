"""What `nft -j list ruleset` says, as chains (libnftables-json(5)). Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from flannelette.control.doctor.firewall import (
    Chain,
    Condition,
    Packet,
    Rule,
    Verdict,
    every,
    negated,
    some,
    undecided,
)

_PRIORITY_UNKNOWN = 0
_VERDICTS = {
    "accept": Verdict.ACCEPT,
    "drop": Verdict.DROP,
    "reject": Verdict.DROP,
    "return": Verdict.RETURN,
    "jump": Verdict.JUMP,
    "goto": Verdict.GOTO,
    "queue": Verdict.UNKNOWN,
}
_HARMLESS = ("counter", "log", "mangle", "comment", "notrack")
"""Statements that decide nothing."""
_REWRITES = ("snat", "dnat", "masquerade", "redirect", "tproxy", "fwd", "dup")
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "ipv6-icmp": 58}
_FAMILIES = {"ipv4": 4, "ipv6": 6, "ip": 4, "ip6": 6}

Sets = Mapping[tuple[str, str, str], Any]
"""Elements by family, table and name."""


def chains(text: str) -> list[Chain]:
    """All chains with their rules. Raises ValueError for what nft does not write."""
    try:
        objects = json.loads(text)["nftables"]
        entries = [(kind, body) for each in objects for kind, body in each.items()]
        sets: Sets = {
            (body["family"], body["table"], body["name"]): body.get("elem", [])
            for kind, body in entries
            if kind == "set"
        }
        found: dict[tuple[str, str, str], Chain] = {}
        for kind, body in entries:
            if kind == "chain":
                chain = _chain(body)
                found[chain.family, chain.table, chain.name] = chain
            elif kind == "rule":
                chain = found[body["family"], body["table"], body["chain"]]
                chain.rules += _rules(body, sets)
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"nft's list is not understood: {error!r}") from None
    return list(found.values())


def _chain(body: Mapping[str, Any]) -> Chain:
    drops = body.get("policy") == "drop"
    priority = body.get("prio", _PRIORITY_UNKNOWN)
    return Chain(
        syntax="nft",
        family=body["family"],
        table=body["table"],
        name=body["name"],
        hook=body.get("hook", ""),
        priority=priority if isinstance(priority, int) else _PRIORITY_UNKNOWN,
        policy=Verdict.DROP if drops else Verdict.ACCEPT,
        device=str(body.get("dev", "")),
    )


def _rules(body: Mapping[str, Any], sets: Sets) -> Iterator[Rule]:
    """One; or as many as its verdict map has entries."""
    name = f"the rule with handle {body['handle']}"

    def in_sets(value: str) -> Any:
        return sets.get((body["family"], body["table"], value.removeprefix("@")))

    conditions: list[Condition] = []
    for statement in body.get("expr", ()):
        ((kind, content),) = statement.items()
        if kind == "match":
            conditions.append(_Match(content, in_sets))
        elif kind in _VERDICTS:
            target = content["target"] if kind in ("jump", "goto") else ""
            if kind == "reject" and content is not None:
                conditions.append(_rejects(str(content.get("type"))))
            yield Rule(tuple(conditions), _VERDICTS[kind], name, target)
        elif kind == "vmap":
            yield from _mapped(content, conditions, in_sets, name)
        elif kind in _REWRITES:
            yield Rule(tuple(conditions), Verdict.UNKNOWN, name)
        elif kind not in _HARMLESS:
            conditions.append(undecided)


def _rejects(answer: str) -> Condition:
    """Whom it answers in that way. nft leaves out the match that the answer implies:
    `meta nfproto ipv6 reject` is listed as `reject with icmpv6 port-unreachable`."""
    version = {"icmp": 4, "icmpv6": 6}.get(answer)

    def condition(packet: Packet) -> bool:
        if answer == "tcp reset":
            return packet.protocol == "tcp"
        return version is None or packet.version == version

    return condition


def _mapped(
    content: Mapping[str, Any], conditions: list[Condition], in_sets: Any, name: str
) -> Iterator[Rule]:
    data = content["data"]
    if not isinstance(data, Mapping):  # a map of its own
        yield Rule(tuple(conditions), Verdict.UNKNOWN, name)
        return
    for value, verdict in data["set"]:
        ((kind, target),) = verdict.items()
        if kind not in _VERDICTS:
            continue
        match = _Match({"op": "==", "left": content["key"], "right": value}, in_sets)
        to = target["target"] if kind in ("jump", "goto") else ""
        yield Rule((*conditions, match), _VERDICTS[kind], name, to)


class _Match:
    """A match statement: does the packet have it so?"""

    def __init__(self, content: Mapping[str, Any], in_sets: Any) -> None:
        self._op = content["op"]
        self._left = content["left"]
        self._right = content["right"]
        self._in_sets = in_sets

    def __call__(self, packet: Packet) -> bool | None:
        try:
            return self._decided(packet)
        except (ValueError, TypeError, AttributeError, LookupError):
            return None  # of a form that is not known here

    def _decided(self, packet: Packet) -> bool | None:
        applies, value = _value(self._left, packet)
        if applies is not True or value is None:
            return applies and None
        if self._op in ("==", "in"):
            return self._is(value, self._right)
        if self._op == "!=":
            return negated(self._is(value, self._right))
        return None

    def _is(self, value: Any, right: Any) -> bool | None:
        match right:
            case {"set": list(those)} | list(those):
                return some(self._is(value, each) for each in those)
            case {"elem": {"val": inner}}:
                return self._is(value, inner)
            case {"prefix": {"addr": address, "len": length}}:
                network = ip_network(f"{address}/{length}")
                return value.version == network.version and value in network
            case {"range": [low, high]}:
                return every((self._least(low, value), self._least(value, high)))
            case str() if right.startswith("@"):
                those = self._in_sets(right)
                return None if those is None else self._is(value, those)
            case str() | int():
                return _equals(value, right)
        return None

    def _least(self, low: Any, high: Any) -> bool | None:
        low, high = (_typed(each) for each in (low, high))
        return low <= high if type(low) is type(high) else None


def _value(left: Any, packet: Packet) -> tuple[bool | None, Any]:
    """Does the packet have what is asked for (None: not known), and its value."""
    match left:
        case {"meta": {"key": key}}:
            return True, _META.get(key, _unknown)(packet)
        case {"ct": {"key": "state"}}:
            return True, "new"
        case {"payload": {"protocol": ("ip" | "ip6") as family, "field": name}}:
            if _FAMILIES[family] != packet.version:
                return False, None
            return True, _IP.get(name, _unknown)(packet)
        case {"payload": {"protocol": ("udp" | "tcp" | "th") as protocol, **rest}}:
            if protocol not in ("th", packet.protocol):
                return False, None
            return True, _PORTS.get(str(rest.get("field")), _unknown)(packet)
        case {"payload": {"protocol": str(protocol)}} if protocol in _PROTOCOLS:
            return (None if protocol == packet.protocol else False), None
    return None, None


def _equals(value: Any, right: Any) -> bool:
    if isinstance(right, str) and isinstance(value, str) and right.endswith("*"):
        return value.startswith(right[:-1])
    return bool(_typed(value) == _typed(right))


def _typed(value: Any) -> Any:
    """Protocols and families as numbers, addresses as such."""
    if not isinstance(value, str):
        return value
    if value in _PROTOCOLS:
        return _PROTOCOLS[value]
    try:
        return ip_address(value)
    except ValueError:
        return value


def _unknown(packet: Packet) -> None:
    """What nothing is known of."""


_Reader = Callable[[Packet], Any]
_META: Mapping[str, _Reader] = {
    "iif": lambda packet: packet.iif,
    "iifname": lambda packet: packet.iif,
    "oif": lambda packet: packet.oif,
    "oifname": lambda packet: packet.oif,
    "l4proto": lambda packet: packet.protocol,
    "nfproto": lambda packet: {4: "ipv4", 6: "ipv6"}[packet.version],
    "protocol": lambda packet: {4: "ip", 6: "ip6"}[packet.version],
}
_IP: Mapping[str, _Reader] = {
    "saddr": lambda packet: packet.source,
    "daddr": lambda packet: packet.destination,
    "protocol": lambda packet: packet.protocol,
    "nexthdr": lambda packet: packet.protocol,
}
_PORTS: Mapping[str, _Reader] = {
    "sport": lambda packet: packet.source_port,
    "dport": lambda packet: packet.port,
}
