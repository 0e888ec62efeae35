"""May pods rely on this node? Pure.

flanneld's readiness says that it has started, and never changes again (Z2). Ours also
says when packets do not go their way any more, or are about to stop going. What the
daemon is built to outlive is no reason: it forwards without its store, and replaces a
lost device at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from flannelette.control.text import duration


class Cause(StrEnum):
    """What kind of thing is wrong: a label for metrics."""

    STARTING = "starting"
    LEASE = "lease"
    """It is lost, or will be."""
    STORE = "store"
    """Nobody tells us any more where subnets are."""
    CARRIER = "carrier"
    """What carries the packets lacks something: TUN, device, routes."""
    PUMPS = "pumps"
    RULES = "rules"
    """Traffic rules that somebody asked for."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the daemon knows of itself; the defaults are a healthy node's."""

    started: bool = True
    """There are a lease, rules, and a subnet file (Z2)."""
    waiting_for: str | None = None
    """Why it has not started yet."""
    margin: float = 3600.0
    """Seconds before its end at which the lease is renewed."""
    lease_revoked: bool = False
    """Our lease is gone, and not taken again yet."""
    lease_left: float | None = None
    """Seconds until it runs out, less than 0 after that; None: never."""
    lease_error: str | None = None
    """Why it is not renewed, or not taken again."""
    store_outage: float = 0.0
    """Seconds for which the store has not been there; 0: it is."""
    store_error: str | None = None
    tun_lost: bool = False
    """There should be one, and is not."""
    carrier_error: str | None = None
    """What cannot be repaired."""
    pump_ended: bool = False
    rules_error: str | None = None
    """Of rules that somebody asked for."""


@dataclass(frozen=True, slots=True)
class Ready:
    """They may."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """They may not, for at least one reason."""

    reasons: Mapping[Cause, str]

    @property
    def reason(self) -> str:
        """All of them, on one line."""
        return "; ".join(self.reasons.values())


Verdict = Ready | NotReady

PATIENCE = 120.0
"""Seconds by which a renewal may be late: it is tried again every 60."""


def judge(facts: Facts) -> Verdict:
    """Until it has started, a node has that reason alone."""
    if not facts.started:
        return NotReady({Cause.STARTING: facts.waiting_for or "it starts"})
    reasons = dict(_reasons(facts))
    return NotReady(reasons) if reasons else Ready()


def _reasons(facts: Facts) -> Iterator[tuple[Cause, str]]:
    if lease := _lease(facts):
        yield Cause.LEASE, _because(lease, facts.lease_error)
    if facts.store_outage > facts.margin:
        lacking = f"the store has been away for {duration(facts.store_outage)}"
        yield Cause.STORE, _because(lacking, facts.store_error)
    if facts.tun_lost:
        yield Cause.CARRIER, _because("the TUN is lost", facts.carrier_error)
    elif facts.carrier_error:
        yield Cause.CARRIER, _because("cannot be repaired", facts.carrier_error)
    elif facts.pump_ended:
        yield Cause.PUMPS, "a pump has ended"
    if facts.rules_error:
        yield Cause.RULES, _because("traffic rules are not kept", facts.rules_error)


def _lease(facts: Facts) -> str | None:
    """What is wrong with it. Not that a renewal has failed: that what it is there for,
    the margin, is being used up."""
    if facts.lease_revoked:
        return "the lease was revoked"
    left = facts.lease_left
    if left is None or left > facts.margin - min(PATIENCE, facts.margin / 2):
        return None
    if left <= 0:
        return "the lease has expired"
    return f"the lease expires in {duration(left)} and is not renewed"


def _because(what: str, why: str | None) -> str:
    return f"{what}: {why}" if why else what
