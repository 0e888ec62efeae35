"""Whether a firewall drops a packet: as the kernel does it, for rules of every kind."""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import closing
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from flannelette.benchmarks.netns import tool
from flannelette.control.doctor import iptables, nft
from flannelette.control.doctor.firewall import Block, Packet, blocked, by_name
from tests.helpers import freshnet
from tests.helpers.ns import needs_namespaces

HERE = "127.0.0.1"
FROM, TO = 4000, 8285
PACKET = Packet(4, "udp", ip_address(HERE), ip_address(HERE), FROM, TO, "", "lo")

DECIDED = [
    *("udp dport 8285", "udp dport != 8285", "udp dport { 53, 8000-9000 }"),
    *("udp sport 4000", "udp sport 1-3999", "tcp dport 8285", "th dport 8000-9000"),
    *("ip saddr 127.0.0.0/8", "ip saddr != 127.0.0.1", "ip daddr @these"),
    *("ip daddr != @these", "ip daddr { 10.0.0.0/8, 127.0.0.1 }", "ip6 saddr ::1"),
    *("meta l4proto udp", "meta l4proto { tcp, icmp }", "ip protocol 17"),
    *("oifname lo", 'oifname "l*"', "oifname { eth0, lo }", "oif lo"),
    *("iifname eth0", "iifname != eth0", "meta nfproto ipv4", "meta nfproto ipv6"),
    *("ct state new", "ct state established,related", "ct state { new, invalid }"),
    *("icmp type echo-request", "meta protocol ip", "counter", "ip daddr @none"),
]
UNDECIDED = ["meta mark 0", "meta mark 7", "limit rate 1/day", "ip ttl 64", "ip ttl 1"]
VERDICTS = [
    *("accept", "drop", "reject", "return", "jump deeper", "goto deeper", "counter"),
    "ct state vmap { new : drop, established : accept }",
    "udp dport vmap { 53 : accept, 8285 : jump deeper }",
]


def chain(verdicts: list[str], conditions: list[str]) -> st.SearchStrategy[str]:
    rule = st.tuples(
        st.lists(st.sampled_from(conditions), max_size=2), st.sampled_from(verdicts)
    ).map(lambda parts: " ".join([*parts[0], parts[1]]))
    return st.lists(rule, max_size=4).map("\n".join)


def rulesets(conditions: list[str]) -> st.SearchStrategy[str]:
    flat = [verdict for verdict in VERDICTS if "deeper" not in verdict]
    return st.builds(
        RULES.format,
        family=st.sampled_from(["ip", "inet", "ip6"]),
        policy=st.sampled_from(["accept", "drop"]),
        deeper=chain(flat, conditions),
        output=chain(VERDICTS, conditions),
        late=chain(flat, conditions),
    )


# A family that has no IPv4 knows no sets of its addresses: they are in their own place.
RULES = """
flush ruleset
table {family} one {{
    set these {{ type ipv4_addr; flags interval; elements = {{ 127.0.0.0/24 }}; }}
    set none {{ type ipv4_addr; }}
    chain deeper {{
        {deeper}
    }}
    chain output {{
        type filter hook output priority 0; policy {policy};
        {output}
    }}
}}
table inet two {{
    set these {{ type ipv4_addr; flags interval; elements = {{ 127.0.0.0/24 }}; }}
    set none {{ type ipv4_addr; }}
    chain late {{
        type filter hook output priority 10;
        {late}
    }}
}}
"""


def late(rule: str) -> str:
    """A ruleset with this one rule, where both versions of IP pass."""
    return RULES.format(family="ip", policy="accept", deeper="", output="", late=rule)


def run_nft(*arguments: str, rules: str = "") -> subprocess.CompletedProcess[str]:
    command = [tool("nft"), *arguments]
    return subprocess.run(command, input=rules, text=True, capture_output=True)


def judged(hooks: list[str] | None = None) -> Block | None:
    done = run_nft("-j", "list", "ruleset")
    assert done.returncode == 0, done.stderr
    return blocked(by_name(nft.chains(done.stdout)), hooks or ["output"], PACKET)


def is_dropped(sender: socket.socket) -> bool:
    """What the kernel says; it says so to whoever sends."""
    try:
        sender.sendto(b"whatever", (HERE, TO))
    except PermissionError:
        return True
    return False


def compare(conditions: list[str], count: int, only_blocks: bool) -> None:
    """In a fresh namespace. `only_blocks`: a doubt may hide a drop, not invent one."""
    outcomes = set()

    async def body() -> None:
        freshnet.ip("link set lo up")
        receiver, sender = (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)
        )
        with closing(receiver), closing(sender):
            receiver.bind((HERE, TO))
            sender.bind((HERE, FROM))

            @settings(
                max_examples=count,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(rulesets(conditions))
            @example(late("meta nfproto ipv6 reject"))
            @example(late("meta nfproto ipv4 reject"))
            @example(late("reject with icmpx admin-prohibited"))
            @example(late("meta l4proto tcp reject with tcp reset"))
            def one(rules: str) -> None:
                if run_nft("-f", "-", rules=rules).returncode:
                    return  # nft itself sees that it makes no sense
                says, is_so = judged() is not None, is_dropped(sender)
                outcomes.add((says, is_so))
                assert is_so or not says
                assert only_blocks or says == is_so

            one()

    freshnet.in_fresh_net(body)
    assert {(True, True), (False, False)} <= outcomes


@needs_namespaces
def test_the_kernel_drops_what_we_say() -> None:
    compare(DECIDED, 150, only_blocks=False)


@needs_namespaces
def test_what_is_undecided_is_never_blamed() -> None:
    compare([*DECIDED, *UNDECIDED * 4], 100, only_blocks=True)


# ---- iptables ------------------------------------------------------------------------

SAVED = """\
# Generated by iptables-save v1.8.9
*filter
:INPUT {policy} [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [12:3456]
:DEEPER - [0:0]
{rules}
COMMIT
"""
INCOMING = Packet(
    4,
    "udp",
    ip_address("192.0.2.2"),
    ip_address("192.0.2.1"),
    None,
    8285,
    "eth0",
    "",
)
DROPPED = [
    "-A INPUT -j DROP",
    "-A INPUT -p udp -m udp --dport 8285 -j REJECT --reject-with icmp-port-unreachable",
    "-A INPUT -i eth+ -p udp -m udp --dport 8000:9000 -j DROP",
    "-A INPUT ! -i lo -j DROP",
    "-A INPUT -p udp -m multiport --dports 53,8285 -j DROP",
    '-A INPUT -s 192.0.2.0/24 -m comment --comment "not -j ACCEPT" -j DROP',
    "-A INPUT ! -s 10.0.0.0/8 -p udp -j DROP",
    "-A INPUT -m conntrack --ctstate INVALID,NEW -j DROP",
    "-A INPUT -j LOG --log-prefix x\n-A INPUT -j DEEPER\n-A DEEPER -p udp -j DROP",
    "-A INPUT -g DEEPER\n-A INPUT -j ACCEPT\n-A DEEPER -d 192.0.2.1/32 -j DROP",
    "-A INPUT -j DEEPER\n-A INPUT -j DROP\n-A DEEPER -j RETURN\n-A DEEPER -j ACCEPT",
    "-A INPUT -m mark --mark 0x1 -j DROP\n-A INPUT -j DROP",
]
PASSED = [
    "-A INPUT -p tcp -m tcp --dport 8285 -j DROP",
    "-A INPUT -p udp -m udp --dport 53 -j DROP",
    "-A INPUT -p udp -m udp --sport 53 -j DROP",
    "-A INPUT ! -i eth0 -j DROP",
    "-A INPUT ! -s 192.0.2.2/32 -j DROP",
    "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j DROP",
    "-A INPUT -m mark --mark 0x1 -j DROP",
    "-A INPUT -m mark --mark 0x1 -j ACCEPT\n-A INPUT -j DROP",
    "-A INPUT -j KUBE-FIREWALL\n-A INPUT -j DROP",
    "-A INPUT -p udp -j NFQUEUE --queue-num 1\n-A INPUT -j DROP",
    "-A INPUT -p udp -j ACCEPT\n-A INPUT -j DROP",
    "-A FORWARD -j DROP",
]


def saved(rules: str, policy: str = "ACCEPT") -> Block | None:
    text = SAVED.format(rules=rules, policy=policy)
    chains = by_name(iptables.chains(text, "iptables"))
    return blocked(chains, ["prerouting", "input"], INCOMING)


@pytest.mark.parametrize("rules", DROPPED)
def test_iptables_drops(rules: str) -> None:
    block = saved(rules)
    assert block is not None
    assert block.chain.place == "iptables chain INPUT (table filter)"


@pytest.mark.parametrize("rules", PASSED)
def test_iptables_lets_pass(rules: str) -> None:
    assert saved(rules) is None


def test_a_policy_drops_what_no_rule_saves() -> None:
    block = saved("-A INPUT -i lo -j ACCEPT", "DROP")
    assert block is not None
    assert block.rule == "its policy"
    assert saved("-A INPUT -p udp --dport 8285 -j ACCEPT", "DROP") is None
    assert saved("-A INPUT -m mark --mark 1 -j ACCEPT", "DROP") is None


def test_rules_have_the_numbers_that_iptables_gives_them() -> None:
    block = saved("-A INPUT -j LOG\n-A FORWARD -j DROP\n-A INPUT -p udp -j DROP")
    assert block is not None
    assert block.rule == "rule 2"


def test_ip6tables_is_not_asked_about_ipv4() -> None:
    text = SAVED.format(rules="-A INPUT -j DROP", policy="DROP")
    chains = by_name(iptables.chains(text, "ip6tables"))
    assert blocked(chains, ["input"], INCOMING) is None


# ---- what nobody writes --------------------------------------------------------------

OBJECTS = ["chain", "rule", "set", "match", "drop", "vmap", "meta"]
MEMBERS = ["family", "table", "name", "handle", "expr", "op", "left", "right", "key"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*OBJECTS, *MEMBERS]),
            inner,
            max_size=6,
        )
    ),
)


@given(values)
def test_any_list_is_understood_or_refused(value: Any) -> None:
    for text in (json.dumps(value), json.dumps({"nftables": value})):
        try:
            chains = by_name(nft.chains(text))
        except ValueError:
            continue
        blocked(chains, ["input"], INCOMING)


@given(values)
def test_any_match_is_decided_or_not(match: Any) -> None:
    family = {"family": "inet", "table": "t"}
    statement = {"match": {"op": "==", "left": match, "right": match}}
    rule = {**family, "chain": "c", "handle": 1, "expr": [statement, {"drop": None}]}
    chain = {**family, "name": "c", "hook": "input", "prio": 0, "policy": "accept"}
    text = json.dumps({"nftables": [{"chain": chain}, {"rule": rule}]})
    blocked(by_name(nft.chains(text)), ["input"], INCOMING)


WORDS = [
    *("-j", "-g", "-s", "-d", "-i", "-o", "-p", "-m", "!", "--dport", "--ctstate"),
    *("INPUT", "DROP", "ACCEPT", "eth0", "udp", "8285", "1:", ":9", "1,2", "192.0.2.2"),
]


@given(st.text("*:-A INPUTjDROP \n'\"!", max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        chains = by_name(iptables.chains(text, "iptables"))
    except ValueError:
        return
    blocked(chains, ["input"], INCOMING)


@given(st.lists(st.sampled_from(WORDS), max_size=8))
def test_any_rule_is_understood_or_refused(words: list[str]) -> None:
    text = f"*filter\n:INPUT DROP [0:0]\n-A INPUT {' '.join(words)}\nCOMMIT\n"
    try:
        chains = by_name(iptables.chains(text, "iptables"))
    except ValueError:
        return
    blocked(chains, ["input"], INCOMING)
