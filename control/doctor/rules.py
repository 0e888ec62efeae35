"""Checks of this node's firewall: does what the overlay needs get through? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from flannelette.control.backends.backend import Subnet
from flannelette.control.doctor import cures
from flannelette.control.doctor.facts import Cure, Facts, Finding, Findings
from flannelette.control.doctor.firewall import Block, Packet, blocked
from flannelette.dataplane.asking import Address

_IN = ("ingress", "prerouting", "input")
_OUT = ("output", "postrouting")
_FORWARD = ("prerouting", "forward", "postrouting")


def port(facts: Facts) -> Findings:
    """What is encapsulated, to the port and from here to the peers' port."""
    own, number = facts.external, facts.port
    if own is None or number is None:
        return
    from_port = number if facts.backend_type == "udp" else None
    told: set[str] = set()
    for peer in [it.peer for it in facts.peers]:
        here = own.address if peer.address.version == 4 else own.address6
        there, version = peer.address, peer.address.version
        ends: list[tuple[Sequence[str], Packet, str]] = [
            (
                _IN,
                Packet(version, "udp", there, here, from_port, number, own.name, ""),
                f"UDP {number} from {there} is dropped here",
            ),
            (
                _OUT,
                Packet(version, "udp", here, there, from_port, number, "", own.name),
                f"UDP {number} to {there} is dropped here",
            ),
        ]
        for hooks, packet, what in ends:
            block = blocked(facts.chains, hooks, packet)
            if block is None or block.chain.place in told:
                continue
            told.add(block.chain.place)
            cure = cures.let_pass_port(block.chain, number)
            yield Finding("firewall-port", what, _because(block), Cure(cure))


def forward(facts: Facts) -> Findings:
    """Packets between pods here and pods elsewhere, if there are pods here."""
    lease = facts.status and facts.status["lease"]
    if not lease:
        return
    told: set[str] = set()
    for own in filter(None, (lease["subnet"], lease["subnet6"])):
        ours = ip_network(own)
        bridge = _bridge(facts, ours)
        theirs = _peer_subnet(facts, ours.version)
        if bridge is None or theirs is None:
            continue
        here, there = _pod(ours), _pod(theirs)
        inside = facts.device or facts.external_name
        both = [(there, here, inside, bridge), (here, there, bridge, inside)]
        for source, target, iif, oif in both:
            packet = Packet(ours.version, "tcp", source, target, None, None, iif, oif)
            block = blocked(facts.chains, _FORWARD, packet)
            if block is None or block.chain.place in told:
                continue
            told.add(block.chain.place)
            network = facts.network_of(ours.version) or own
            cure = cures.let_pass_network(block.chain, ours.version, network)
            yield Finding(
                "firewall-forward",
                f"packets from {iif} to {oif} are dropped here: pods reach nobody",
                _because(block),
                Cure(cure),
            )


def _because(block: Block) -> str:
    return f"{block.rule}, in {block.chain.place}"


def _bridge(facts: Facts, subnet: Subnet) -> str | None:
    """The interface that the pods are behind: it has one of their subnet's addresses,
    and is not the overlay's device."""
    for it in facts.interfaces:
        addresses: list[Any] = [*it.addresses, *it.addresses6]
        within = [a.ip for a in addresses if a.ip.version == subnet.version]
        if it.name != facts.device and any(ip in subnet for ip in within):
            return it.name
    return None


def _peer_subnet(facts: Facts, version: int) -> Subnet | None:
    subnets = (subnet for it in facts.peers for subnet in it.subnets)
    return next((subnet for subnet in subnets if subnet.version == version), None)


def _pod(subnet: Subnet) -> Address:
    """The first address behind the bridge's own."""
    return subnet.network_address + 2
