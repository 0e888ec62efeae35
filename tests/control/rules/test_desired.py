"""The rules a node wants, as data and as text: flannel-behaviour.md 8.1 to 8.3."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from flannelette.control.rules import iptables, nft
from flannelette.control.rules.desired import Rules, Topic, Wanted, desired
from flannelette.control.rules.iptables import (
    PLACES,
    change,
    lines,
    payload,
    read,
    words,
)
from tests.helpers import firewalls
from tests.helpers.firewalls import ALL, DUAL, DUAL_SUBNETS, JUMPS, NETWORK, SUBNETS

TOPICS: tuple[Topic, ...] = ("masquerade", "forward")
[RULES] = desired(ALL, NETWORK, SUBNETS)
MASQ = PLACES["masquerade"]
WANTED = lines(RULES, "masquerade")


def test_iptables_rules_are_flannels() -> None:
    """8.1, 8.2, for both versions of IP."""
    for rules in desired(ALL, DUAL, DUAL_SUBNETS):
        assert lines(rules, "masquerade") == firewalls.masquerade(rules.version)
        assert lines(rules, "forward") == firewalls.forward(rules.version)


def test_no_second_version_without_dual_stack() -> None:
    assert [rules.version for rules in desired(ALL, NETWORK, SUBNETS)] == [4]
    assert [rules.version for rules in desired(ALL, DUAL, DUAL_SUBNETS)] == [4, 6]


def test_settings_decide() -> None:
    [masq] = desired(Wanted(True, False, False), NETWORK, SUBNETS)
    assert masq.forward == ()
    assert not any("--random-fully" in it for it in lines(masq, "masquerade"))
    [forward] = desired(Wanted(False, True, True), NETWORK, SUBNETS)
    assert forward.masquerade == ()
    assert desired(Wanted(False, False, True), NETWORK, SUBNETS) == ()


def saved(*rules: str, table: str = "nat", chain: str = MASQ.chain) -> str:
    """As iptables-save writes it."""
    head = [f"*{table}", ":PREROUTING ACCEPT [0:0]", f":{chain} - [0:0]"]
    return "\n".join([*head, *rules, "COMMIT"])


def changed(text: str, wanted: list[str] = WANTED) -> list[str]:
    return change(read(text, MASQ), wanted, MASQ)


def test_sound_rules_are_left() -> None:
    assert changed(saved(JUMPS[0], *WANTED)) == []
    # Another version of iptables may write the same otherwise.
    other = [text.replace("! -s 10.5.0.0/16 ", "") for text in WANTED]
    other = [
        f"{b} ! -s 10.5.0.0/16" if a != b else b
        for a, b in zip(WANTED, other, strict=True)
    ]
    assert other != WANTED
    assert changed(saved(JUMPS[0], *other)) == []


WRONG = {
    "order": [JUMPS[0], *reversed(WANTED)],
    "one is missing": [JUMPS[0], *WANTED[1:]],
    "one is twice": [JUMPS[0], *WANTED, WANTED[0]],
    "jump is missing": WANTED,
    "jump is twice": [*JUMPS[:1] * 2, *WANTED],
    "a foreign rule": [JUMPS[0], "-A FLANNEL-POSTRTG -s 1.2.3.4/32 -j DROP", *WANTED],
    "an open quote": [JUMPS[0], '-A FLANNEL-POSTRTG -m comment --comment "x', *WANTED],
    "negation moved": [
        JUMPS[0],
        *(it.replace("! -s 10.5.0.0/16 -d", "-s 10.5.0.0/16 ! -d") for it in WANTED),
    ],
    "nothing": [],
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_made_anew(what: str) -> None:
    """M3, and what it leaves out: order, duplicates (#1337)."""
    text = saved(*WRONG[what])
    made = changed(text)
    assert made[0] == ":FLANNEL-POSTRTG - [0:0]", "the chain is emptied"
    removed = [it for it in made if it.startswith("-D ")]
    assert removed == [f"-D{JUMPS[0][2:]}"] * text.count("-j FLANNEL-POSTRTG")
    assert made[1 + len(removed) :] == [*WANTED, JUMPS[0]]


def test_rules_of_older_flannels_go() -> None:
    """Before there were chains, they lay in POSTROUTING, with the same comment."""
    old = (
        "-A POSTROUTING -s 10.4.0.0/16 -d 10.4.0.0/16 "
        '-m comment --comment "flanneld masq" -j RETURN'
    )
    assert f"-D{old[2:]}" in changed(saved(old, JUMPS[0], *WANTED))


FOREIGN = [
    "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
    '-A POSTROUTING -m comment --comment "not flanneld masq" -j ACCEPT',
    "-A POSTROUTING -o eth9 -j FLANNEL-POSTRTG",
    '-A KUBE -m comment --comment "flanneld masq" -j RETURN',
]


def test_foreign_rules_are_left() -> None:
    made = changed(saved(*FOREIGN))
    assert not any(text.startswith(("-D", "-X")) for text in made)
    gone = changed(saved(*FOREIGN, JUMPS[0], *WANTED), wanted=[])
    # Somebody still jumps there, so it can be emptied only (M5).
    assert gone == [":FLANNEL-POSTRTG - [0:0]", f"-D{JUMPS[0][2:]}"]
    assert changed(saved(*FOREIGN), wanted=[]) == [], "already empty"


def test_rules_of_another_table_are_not_ours() -> None:
    text = saved(JUMPS[0], *WANTED, table="mangle")
    assert not any(it.startswith("-D") for it in changed(text))
    assert changed(text, wanted=[]) == []


def test_removal() -> None:
    gone = changed(saved(JUMPS[0], *WANTED), wanted=[])
    jump = f"-D{JUMPS[0][2:]}"
    assert gone == [":FLANNEL-POSTRTG - [0:0]", jump, "-X FLANNEL-POSTRTG"]
    assert payload({"masquerade": gone, "forward": []}) == "\n".join(
        ["*nat", *gone, "COMMIT\n"]
    )


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    """Whatever iptables-save says, we end with our rules, or without any."""
    words(text)
    for rules in ("*nat\n" + text, "*nat\n-A FLANNEL-POSTRTG " + text, text):
        made = changed(rules)
        assert made[-1 - len(WANTED) :] == [*WANTED, JUMPS[0]]
        changed(rules, wanted=[])


@given(st.permutations([*FOREIGN, JUMPS[0], *WANTED]), st.integers(0, 11))
def test_only_ours_is_named(rules: list[str], keep: int) -> None:
    made = changed(saved(*rules[:keep]))
    for text in made:
        assert text[2:] not in [foreign[2:] for foreign in FOREIGN]


# ---- nftables ------------------------------------------------------------------------


def objects(rules: Rules) -> str:
    """What nft tells once the transaction is done, handles left out."""
    commands = json.loads(nft.transaction(rules, list(TOPICS)))["nftables"]
    added = [it["add"] for it in commands if "add" in it]
    # Each chain is added twice: without and with its hook.
    kept = [it for it in added if "chain" not in it or "hook" in it["chain"]]
    return json.dumps({"nftables": kept})


def test_nft_sees_what_differs() -> None:
    text = objects(RULES)
    assert nft.differing(text, RULES, everything=True) == []
    assert nft.differing(None, RULES, everything=True) == [*TOPICS]
    fewer = replace(RULES, masquerade=RULES.masquerade[::-1])
    assert nft.differing(text, fewer, everything=False) == ["masquerade"]
    none = replace(RULES, forward=())
    assert nft.differing(text, none, everything=False) == []
    assert nft.differing(text, none, everything=True) == ["forward"]


def test_newer_nft_list_flags() -> None:
    text = objects(RULES).replace('"fully-random"', '["fully-random"]')
    assert nft.differing(text, RULES, everything=True) == []


def test_a_hook_that_was_moved_is_put_back() -> None:
    text = objects(RULES).replace('"prio": 100', '"prio": 101')
    assert nft.differing(text, RULES, everything=False) == ["masquerade"]


@given(st.text() | st.sampled_from(['{"nftables": [1]}', '{"nftables": [{}]}']))
def test_any_list_of_nft_is_read(text: str) -> None:
    with pytest.raises(ValueError, match="is not understood"):
        nft.differing(text, RULES, everything=True)


def test_masquerade_differs_from_flannels_where_that_is_wrong() -> None:
    """8.3: its fourth rule would return all that comes from outside."""
    fourth = nft.expression(RULES.masquerade[3], "ip")
    operators = [it["match"]["op"] for it in fourth if "match" in it]
    networks = [it["match"]["right"]["prefix"] for it in fourth if "match" in it]
    assert operators == ["!=", "=="]
    assert [it["len"] for it in networks] == [16, 24]
    assert iptables.line(RULES.masquerade[3], MASQ) == firewalls.masquerade()[3]
