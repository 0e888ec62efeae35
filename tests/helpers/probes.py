"""What a node of ours replies to a datagram."""

from __future__ import annotations

from flannelette.encap import probe


def answer(datagram: bytes, known: bool) -> bytes | None:
    """The reply, if it came from a known peer's address, or did not; None: it is no
    request. As probe_answer() in native/src/probe.c."""
    try:
        found = probe.parse(datagram)
    except probe.NoProbe:
        return None
    if found.kind is not probe.Kind.REQUEST:
        return None
    return probe.reply(found.nonce, len(datagram), known)
