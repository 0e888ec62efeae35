"""The rules that a node wants of the kernel's firewall, as data. Pure.

flannel-behaviour.md 8.1 and 8.2. Two things are asked for. *Masquerade*: what leaves
the overlay for elsewhere takes the host's address, or no answer would find the way
back; and so does what enters it from elsewhere for a peer's pod, which then answers
through the overlay. What moves inside keeps its addresses. *Forward*: packets of the
overlay may pass where the firewall forbids forwarding by default.

A backend (iptables.py, nft.py) tells the kernel. Both are given these very
rules: flannel's nftables differ from its iptables in the fourth, which there returns
what host and outside send into the cluster, so that the last never applies (8.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal, Protocol

from flannelette.control.lease import Subnets
from flannelette.control.netconfig import NetworkConfig

Network = IPv4Network | IPv6Network
Version = Literal[4, 6]
"""Of IP."""
Topic = Literal["masquerade", "forward"]
"""What a chain of ours is for."""

KUBE_MARK = 0x4000
"""The bit of a packet's mark by which kube-proxy says: I masquerade this one."""
MULTICAST = {4: ip_network("224.0.0.0/4"), 6: ip_network("ff00::/8")}


@dataclass(frozen=True, slots=True)
class Match:
    """An address inside the network; negated: outside of it."""

    network: Network
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do with a packet that all conditions hold for."""

    verdict: Literal["return", "accept", "masquerade"]
    source: Match | None = None
    destination: Match | None = None
    marked: bool = False
    """It has kube-proxy's mark."""
    fully_random: bool = False
    """Masquerade with a port drawn at random, against lost races for the same one."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is wanted for one IP version, in the order in which it is asked. Without
    rules, a topic's chain is not wanted either."""

    version: Version
    masquerade: tuple[Rule, ...] = ()
    forward: tuple[Rule, ...] = ()

    def of(self, topic: Topic) -> tuple[Rule, ...]:
        return self.masquerade if topic == "masquerade" else self.forward


@dataclass(frozen=True, slots=True)
class Wanted:
    """The settings that decide on rules (4.1)."""

    masquerade: bool
    forward: bool
    fully_random: bool
    optional: bool = False
    """Nobody asked for them by name: where they cannot be made, do without."""


def desired(
    wanted: Wanted, network: NetworkConfig, subnets: Subnets
) -> tuple[Rules, ...]:
    """The rules of a node whose lease is on these subnets, for each version of IP that
    the overlay has; none if nothing is wanted."""
    if not (wanted.masquerade or wanted.forward):
        return ()
    pairs: list[tuple[Version, Network, Network]]
    pairs = [(4, network.network, subnets.v4)]
    if network.network6 is not None and subnets.v6 is not None:
        pairs.append((6, network.network6, subnets.v6))
    return tuple(
        Rules(
            version,
            masquerade(cluster, own, wanted.fully_random) if wanted.masquerade else (),
            forward(cluster) if wanted.forward else (),
        )
        for version, cluster, own in pairs
    )


def masquerade(cluster: Network, own: Network, fully_random: bool) -> tuple[Rule, ...]:
    """8.1: the six rules of a node with this subnet of the cluster's network."""
    within, local = Match(cluster), Match(own)
    outside = Match(cluster, negated=True)
    elsewhere = Match(MULTICAST[cluster.version], negated=True)
    return (
        Rule("return", marked=True),
        Rule("return", local, within),
        Rule("return", within, local),
        # What comes from outside straight to our pods shows them where it is from.
        Rule("return", outside, local),
        Rule("masquerade", within, elsewhere, fully_random=fully_random),
        Rule("masquerade", outside, within, fully_random=fully_random),
    )


def forward(cluster: Network) -> tuple[Rule, ...]:
    """8.2: from the overlay and to it."""
    return Rule("accept", source=Match(cluster)), Rule("accept", None, Match(cluster))


class RulesBackend(Protocol):
    """Tells the kernel one IP version's rules. Touches its own chains only, and of
    others' chains the rules that bear its comment."""

    name: str
    """The program's, as an operator calls it."""
    version: Version

    def missing(self) -> str | None:
        """The program that is not installed; None if nothing is missing."""

    async def check(self, rules: Rules) -> None:
        """Would the kernel take these rules? It changes nothing.

        Raises HostError, OSError."""

    async def apply(self, rules: Rules, everything: bool = False) -> list[str]:
        """Compare with what there is, order included, and if it differs change it, in
        one transaction; what was changed, in words.

        Topics without rules are looked at only with `everything`, which removes their
        chains. Raises RulesBusy, HostError, OSError; then nothing is changed."""
