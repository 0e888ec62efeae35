"""Asking the peers: by probes, by echoes to their hosts, and through the overlay.

A peer that answers no probe need not be ill: flanneld and kernels do not know them.
Then an echo that comes back through the overlay says that all is well, and one from
its host that the way there is.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from flannelette.control.backends.backend import Subnet
from flannelette.control.doctor.facts import Facts, Peer, PeerFacts
from flannelette.control.errors import one_line
from flannelette.dataplane.asking import (
    Address,
    Answer,
    Outcome,
    Outcomes,
    Question,
    echoes,
    largest_passing,
    probes,
)
from flannelette.dataplane.underlay import UDP_OVERHEAD, VXLAN_HEADER

_Key = TypeVar("_Key")

_SMALL_PROBE = 28
_SMALL_ECHO = 84
"""Bytes of the IP packet: what ping sends."""
_IPV6_MORE = 20
"""Bytes that IPv6's header has more than IPv4's."""
_MOST_MEASURED = 8
"""Peers whose path is measured: on one machine they mostly share the reason."""


def ask_peers(facts: Facts, peers: Mapping[Peer, Sequence[Subnet]]) -> Facts:
    """With what they answer. What cannot be asked is told in `unchecked`."""
    asking = _Asking(facts)
    there = [
        PeerFacts(peer, tuple(subnets), needs=asking.needed(peer))
        for peer, subnets in peers.items()
    ]
    there = asking.by_probes(there)
    there = asking.by_echoes(there)
    there = asking.measured(there)
    return replace(facts, peers=there, unchecked=(*facts.unchecked, *asking.unchecked))


class _Asking:
    def __init__(self, facts: Facts) -> None:
        self.unchecked: list[str] = []
        self._facts = facts
        self._mtus = dict(zip((4, 6), facts.mtus, strict=True))
        """The overlay's, by IP version."""
        self._sources = self._own_addresses()

    def needed(self, peer: Peer) -> int:
        """Bytes on the underlay of the longest packet for that peer."""
        size = self._full(peer)
        beside = UDP_OVERHEAD + (_IPV6_MORE if peer.address.version == 6 else 0)
        return size and size + beside

    def _full(self, peer: Peer) -> int:
        """Bytes of the longest datagram; 0: not known."""
        if not peer.port:
            return 0
        if self._facts.backend_type != "vxlan":
            return self._mtus[4]
        longest = self._mtus[peer.address.version]
        return longest and longest + VXLAN_HEADER

    def _own_addresses(self) -> list[Address]:
        """What the daemon sends from, as far as this machine has it."""
        external = self._facts.external
        if external is None:
            return []
        own: list[Address | None] = [external.address, external.address6]
        has: set[Address] = set()
        for interface in self._facts.interfaces:
            has |= {address.ip for address in interface.addresses}
            has |= {address.ip for address in interface.addresses6}
        return [address for address in own if address in has and address is not None]

    # ---- probes ----------------------------------------------------------------------

    def by_probes(self, there: list[PeerFacts]) -> list[PeerFacts]:
        small = {
            it.peer: Question(*it.peer, _SMALL_PROBE) for it in there if it.peer.port
        }
        outcomes = self._ask(probes, small)
        there = [replace(it, small=outcomes.get(it.peer)) for it in there]
        full = {
            it.peer: Question(*it.peer, size)
            for it in there
            if isinstance(it.small, Answer) and (size := self._full(it.peer))
        }
        outcomes = self._ask(probes, full)
        return [replace(it, full=outcomes.get(it.peer)) for it in there]

    # ---- echoes ----------------------------------------------------------------------

    def by_echoes(self, there: list[PeerFacts]) -> list[PeerFacts]:
        silent = {
            it.peer: Question(it.peer.address, 0, _SMALL_ECHO)
            for it in there
            if not isinstance(it.small, Answer)
        }
        outcomes = self._ask(echoes, silent)
        there = [replace(it, underlay=outcomes.get(it.peer)) for it in there]
        if not self._has_overlay():
            return there
        inside = {
            subnet: _through(subnet, _SMALL_ECHO)
            for it in there
            for subnet in it.subnets
        }
        echoed = self._ask(echoes, inside)
        there = [
            replace(it, overlay={s: echoed[s] for s in it.subnets if s in echoed})
            for it in there
        ]
        full = {
            it.peer: _through(it.alive[0], size)
            for it in there
            if it.alive and (size := self._mtus[it.alive[0].version])
        }
        outcomes = self._ask(echoes, full)
        return [replace(it, overlay_full=outcomes.get(it.peer)) for it in there]

    def _has_overlay(self) -> bool:
        """Is there a way in? With host-gw nobody has a subnet's first address."""
        facts = self._facts
        return facts.started and facts.interface(facts.device) is not None

    # ---- sizes -----------------------------------------------------------------------

    def measured(self, there: list[PeerFacts]) -> list[PeerFacts]:
        """Measure where small passes and full does not."""
        narrow = [it for it in there if _is_narrow(it)][:_MOST_MEASURED]
        return [self._measured(it) if it in narrow else it for it in there]

    def _measured(self, it: PeerFacts) -> PeerFacts:
        if isinstance(it.small, Answer):
            question, least = Question(*it.peer, self._full(it.peer)), _SMALL_PROBE
        else:
            subnet = it.alive[0]
            size = self._mtus[subnet.version]
            question, least = _through(subnet, size), _SMALL_ECHO
        try:
            longest = largest_passing(question, least, self._source(question))
        except OSError as error:
            self._note(f"path MTU to {it.peer.address}: {one_line(error)}")
            return it
        return replace(it, path_mtu=longest + it.needs - question.size)

    # ---- both ------------------------------------------------------------------------

    def _ask(
        self,
        ask: Callable[[Iterable[Question], Address | None], Outcomes],
        questions: Mapping[_Key, Question],
    ) -> dict[_Key, Outcome]:
        """The outcome of each question; none at all if there can be no such socket."""
        found: Outcomes = {}
        for version in (4, 6):
            those = [q for q in questions.values() if q.address.version == version]
            if not those:
                continue
            try:
                found |= ask(those, self._source(those[0]))
            except OSError as error:
                what = "probes" if ask is probes else "echoes"
                if error.errno in (errno.EPERM, errno.EACCES):
                    error.add_note("CAP_NET_RAW is needed")
                self._note(f"{what} over IPv{version}: {one_line(error)}")
        return {key: found[q] for key, q in questions.items() if q in found}

    def _source(self, question: Question) -> Address | None:
        """Of a probe: as the peer knows us. An echo goes out as the kernel likes."""
        if not question.port:
            return None
        version = question.address.version
        return next((a for a in self._sources if a.version == version), None)

    def _note(self, text: str) -> None:
        if text not in self.unchecked:
            self.unchecked.append(text)


def _through(subnet: Subnet, size: int) -> Question:
    return Question(subnet.network_address, 0, size)


def _is_narrow(it: PeerFacts) -> bool:
    if isinstance(it.small, Answer):
        return it.needs > 0 and not isinstance(it.full, Answer)
    return bool(it.alive) and not isinstance(it.overlay_full, Answer)
