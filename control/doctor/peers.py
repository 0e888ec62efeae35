"""Checks of the peers, by what they answer. Pure.

Whoever is silent may be well: flanneld and kernels do not know probes. So silence is
only a finding where an echo through the overlay was asked for, too.
"""

from __future__ import annotations

import errno

from flannelette.control.doctor import cures
from flannelette.control.doctor.facts import (
    Cure,
    Facts,
    Finding,
    Findings,
    PeerFacts,
    Severity,
)
from flannelette.dataplane.asking import Answer

_FORBIDDEN = (errno.EPERM, errno.EACCES)
_RECENT = 10.0
"""Seconds."""


def refusing(facts: Facts) -> Findings:
    """Somebody said no, be it that host or a router or our own kernel."""
    for it in facts.peers:
        outcome = it.small
        if not isinstance(outcome, OSError) or it.alive:
            continue
        address, port = it.peer
        if outcome.errno == errno.ECONNREFUSED:
            yield Finding(
                "peer-refuses",
                f"nobody listens at {address}, UDP {port}",
                "the daemon there is stopped, or a firewall there rejects the port",
                Cure(cures.start_elsewhere(facts.config), address),
            )
        elif outcome.errno in _FORBIDDEN:
            yield Finding(
                "peer-forbidden",
                f"this node may not send to {address}, UDP {port}",
                "a rule of this node's own firewall drops it",
                Cure("nft -a list ruleset"),
            )
        else:
            yield Finding(
                "peer-unreachable",
                f"nothing can be sent to {address}",
                f"the underlay says: {outcome.strerror}",
                Cure(f"ip route get {address}"),
            )


def gone(facts: Facts) -> Findings:
    """Nothing comes back from its host, whatever is asked."""
    for it in facts.peers:
        quiet = it.small is None and not it.alive
        if _heard(facts, it):  # it just does not answer pings
            continue
        if quiet and not isinstance(it.underlay, Answer) and _judged(it):
            yield Finding(
                "peer-gone",
                f"{it.peer.address} does not answer at all",
                "its host is down, or the network to it; its lease is still there",
                Cure(f"ping -c 3 {it.peer.address}"),
            )


def filtered(facts: Facts) -> Findings:
    """Its host answers, its port does not, and the overlay does not either."""
    for it in facts.peers:
        quiet = it.small is None and not it.alive and it.overlay
        if quiet and isinstance(it.underlay, Answer):
            yield Finding(
                "peer-filtered",
                f"UDP {it.peer.port} is lost between here and {it.peer.address}",
                "its host answers pings: its daemon hangs, or a firewall drops it",
                Cure("flannelette doctor", it.peer.address),
            )


def unknown_there(facts: Facts) -> Findings:
    """It drops what comes from addresses that are no peer's."""
    own = facts.external
    if not facts.started or own is None:
        return
    for it in facts.peers:
        if not isinstance(it.small, Answer) or it.small.known:
            continue
        translated = own.address != own.public_ip
        yield Finding(
            "unknown-there",
            f"{it.peer.address} does not know this node, and drops what it sends",
            f"we send from {own.address}, but our lease says {own.public_ip}"
            if translated
            else "our lease has not come there: another store, or none that answers",
            Cure("flannelette doctor", it.peer.address),
        )


def path_mtu(facts: Facts) -> Findings:
    for it in facts.peers:
        if it.path_mtu is None:
            continue
        out = facts.external_name or "eth0"
        passes = isinstance(it.overlay_full, Answer)
        yield Finding(
            "path-mtu",
            f"the way to {it.peer.address} takes {it.path_mtu} bytes, not {it.needs}",
            "a link on it has a smaller MTU"
            + (
                ": long packets are cut in two" if passes else ": long packets are lost"
            ),
            Cure(f"ip link set {out} mtu {it.path_mtu} && {facts.daemon.restart}"),
            Severity.WARNING if passes else Severity.ERROR,
        )


def silent_inside(facts: Facts) -> Findings:
    """Its daemon answers, what is behind that does not."""
    for it in facts.peers:
        silent = [subnet for subnet in it.overlay if subnet not in it.alive]
        if isinstance(it.small, Answer) and it.small.known and silent:
            yield Finding(
                "overlay-silent",
                f"{it.peer.address} answers, its overlay address "
                f"{silent[0].network_address} does not",
                "the device or a firewall there; or its answers are lost on the way",
                Cure("flannelette doctor", it.peer.address),
            )


def _judged(it: PeerFacts) -> bool:
    """Was enough asked to say so? A host may just not answer pings."""
    return bool(it.overlay) or not it.peer.port


def _heard(facts: Facts, it: PeerFacts) -> bool:
    """Has anything come from it just before?"""
    for peer in facts.status["peers"] if facts.status else ():
        if peer["address"] == str(it.peer.address) and peer["idle"] is not None:
            return peer["idle"] < _RECENT
    return False
