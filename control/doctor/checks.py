"""All checks, and in which order their findings matter. Pure.

Whatever is wrong here makes the peers look wrong, too: who is silent is not blamed
while an error of this node explains it.
"""

from __future__ import annotations

from collections.abc import Callable

from flannelette.control.doctor import node, peers, rules, store
from flannelette.control.doctor.facts import Facts, Finding, Findings, Severity

Check = Callable[[Facts], Findings]

_HERE: tuple[Check, ...] = (
    node.daemon,
    node.external,
    store.network_config,
    store.reachable,
    store.lease,
    store.public_ips,
    store.subnets,
    node.device,
    node.routes,
    node.external_mtu,
    rules.port,
    rules.forward,
    node.forwarding,
    node.reverse_path,
)
"""Of this node, and what every node reads: the most likely cause first."""
_PLAIN: tuple[Check, ...] = (peers.refusing, peers.unknown_there)
"""Of peers, by what was answered."""
_BY_SILENCE: tuple[Check, ...] = (
    peers.gone,
    peers.filtered,
    peers.path_mtu,
    peers.silent_inside,
)
"""Of peers, by what was not; without an error here."""
_AT_LAST: tuple[Check, ...] = (node.failing, store.ignored, node.offloads)


def diagnose(facts: Facts) -> list[Finding]:
    """What is wrong: errors before warnings, and likely causes first."""
    if facts.daemon.elsewhere:  # then nothing else was looked at
        return _all((node.daemon,), facts)
    here = _all(_HERE, facts)
    if not any(it.severity is Severity.ERROR for it in here):
        here += _all((node.waiting,), facts)
    found = here + _all(_PLAIN, facts)
    if not any(it.severity is Severity.ERROR for it in here):
        found += _all(_BY_SILENCE, facts)
    found += _all(_AT_LAST, facts)
    return sorted(found, key=lambda it: it.severity)


def _all(checks: tuple[Check, ...], facts: Facts) -> list[Finding]:
    return [finding for check in checks for finding in check(facts)]
