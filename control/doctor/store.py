"""Checks of the store, and of what it says: leases that do not go together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from flannelette.control.doctor import cures
from flannelette.control.doctor.facts import Cure, Facts, Finding, Findings, Severity
from flannelette.control.lease import Lease
from flannelette.dataplane.asking import Address

_TOLD = ("our own subnet", "our own public IP")
"""Reasons not to use a lease (control/table.py) that the checks of two leases tell."""


def reachable(facts: Facts) -> Findings:
    it = facts.store
    if it.error is None:
        return
    status = facts.status
    lease: Any = status and status["lease"]
    alive = facts.started and lease and (lease["expires_in"] or 1) > 0
    yield Finding(
        "store-unreachable",
        "the store does not answer"
        + (": who joins or leaves is not noticed" if alive else ""),
        it.error,
        Cure(cures.reach_store(facts.config)),
        Severity.WARNING if alive else Severity.ERROR,
    )


def network_config(facts: Facts) -> Findings:
    it, status = facts.store, facts.status
    if it.network_error is not None:
        yield Finding(
            "network-config",
            "there is no sound network configuration in the store",
            it.network_error,
            Cure(cures.put_network(facts.config)),
        )
    if it.network is None or status is None or not status["started"]:
        return
    now = ", ".join(map(str, it.network.networks)), it.network.backend_type
    then = status["network"], status["node"]["backend"]
    if now != then:
        yield Finding(
            "network-changed",
            f"the store says {now[1]} in {now[0]}; the daemon does {then[1]} "
            f"in {then[0]}",
            "the network configuration was changed after the daemon's start",
            Cure(facts.daemon.restart),
        )


def lease(facts: Facts) -> Findings:
    own = facts.status and facts.status["lease"]
    if own and own["expires_in"] is not None and own["expires_in"] <= 0:
        yield Finding(
            "lease-expired",
            f"our lease on {own['subnet']} has run out: peers forget us",
            "the store did not answer in time for its renewal",
            Cure(cures.reach_store(facts.config)),
        )


def public_ips(facts: Facts) -> Findings:
    """Two leases with one public IP: one of the subnets cannot be there."""
    holders: dict[Address, list[Lease]] = {}
    for lease in facts.store.leases or ():
        for address in (lease.attrs.public_ip, lease.attrs.public_ipv6):
            if address is not None:
                holders.setdefault(address, []).append(lease)
    told: set[str] = set()
    for address, leases in holders.items():
        if len(leases) < 2 or {lease.key for lease in leases} <= told:
            continue
        told |= {lease.key for lease in leases}
        subnets = " and ".join(str(lease.subnet) for lease in leases)
        whose = "our own" if address in _own_addresses(facts) else "one"
        yield Finding(
            "duplicate-public-ip",
            f"{subnets} have {whose} public IP, {address}: one gets no packets",
            "a lease was left behind (delete it), or a node has another's --public-ip",
            Cure(cures.delete_lease(facts.config, _likely_stale(facts, leases))),
        )


def subnets(facts: Facts) -> Findings:
    """Two leases that share addresses."""
    for one, other in _overlapping(facts.store.leases or ()):
        if one.attrs.public_ip == other.attrs.public_ip:
            continue  # said above
        stale = _likely_stale(facts, [one, other])
        yield Finding(
            "duplicate-subnet",
            f"{one.attrs.public_ip} and {other.attrs.public_ip} both hold "
            f"{_smaller(one, other)}",
            "it was leased twice, perhaps before a change of the network's settings",
            Cure(cures.delete_lease(facts.config, stale)),
        )


def ignored(facts: Facts) -> Findings:
    """What the daemon cannot use, and no check above has said."""
    status = facts.status
    leases = {str(lease.subnets): lease for lease in facts.store.leases or ()}
    for it in status["ignored"] if status else ():
        lease = leases.get(it["subnet"])
        if it["reason"] in _TOLD and lease is not None:
            continue
        command = "flannelette status"
        if lease is not None:
            command = cures.delete_lease(facts.config, lease)
        yield Finding(
            "lease-ignored",
            f"the lease on {it['subnet']} is of no use: {it['reason']}",
            "its node is gone (delete it), or runs with other settings (restart it)",
            Cure(command),
            Severity.WARNING,
        )


def _own_addresses(facts: Facts) -> Sequence[Address]:
    node = facts.status and facts.status["node"]
    if node and node["public_ip"]:
        texts = [node["public_ip"], node["public_ipv6"]]
        return [ip_address(text) for text in texts if text]
    own = facts.external
    return [a for a in (own.public_ip, own.public_ipv6) if a] if own else []


def _likely_stale(facts: Facts, leases: Sequence[Lease]) -> Lease:
    """The one that is not ours; then one that does not fit the network; then the one
    whose node answers no echo; then the last."""
    own, network = facts.status and facts.status["lease"], facts.store.network
    alive = {subnet for it in facts.peers for subnet in it.alive}

    def rank(lease: Lease) -> tuple[bool, bool, bool]:
        ours = own is not None and ip_network(own["subnet"]) == lease.subnet
        fits = network is None or network.contains(*lease.subnets)
        return ours, fits, lease.subnet in alive

    return min(reversed(leases), key=rank)


def _overlapping(leases: Sequence[Lease]) -> Iterator[tuple[Lease, Lease]]:
    """Each lease with the one before it whose subnet reaches into its own."""
    widest: Lease | None = None
    for lease in sorted(leases, key=lambda it: (it.subnet, it.key)):
        if widest is not None and lease.subnet.overlaps(widest.subnet):
            yield widest, lease
        elif widest is None or not lease.subnet.subnet_of(widest.subnet):
            widest = lease
    last: Lease | None = None
    dual = [lease for lease in leases if lease.subnet6 is not None]
    for lease in sorted(dual, key=lambda it: (str(it.subnet6), it.key)):
        if last and last.subnet6 == lease.subnet6 and last.subnet != lease.subnet:
            yield last, lease
        last = lease


def _smaller(one: Lease, other: Lease) -> str:
    """The subnet that both have."""
    if one.subnet.overlaps(other.subnet):
        return str(max((one.subnet, other.subnet), key=lambda it: it.prefixlen))
    return str(one.subnet6)
