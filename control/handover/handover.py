"""From one daemon to the next without losing a packet.

A TUN lives as long as one of its queues is open, and what arrives while nobody reads
waits: frames in the TUN, datagrams in the sockets. So the descriptors pass from a
daemon to its successor, which goes on where the other ended, and with them a document
(document.py) that tells what they are and which routes there were. Somebody must hold
them in between: systemd's fd store (fdstore.py), or the daemon that forwards with them
until its successor is ready (takeover.py).

The successor forwards before it has asked anybody, even before it has loaded most of
itself. What it then learns (the interface, the network configuration, the lease) either
fits, or it starts from scratch. Routes that the store does not confirm are removed.

All is kept up to date while a daemon runs, so that one that was killed has a successor,
too.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress

from flannelette.control.config import Config
from flannelette.control.errors import HostError
from flannelette.control.forwarders import open_forwarder, wishes
from flannelette.control.handover.adopted import Adopted
from flannelette.control.handover.descriptors import (
    DOCUMENT,
    TUN,
    detach,
    named,
    rebuilt,
)
from flannelette.control.handover.document import (
    Document,
    HandoverError,
    Opened,
    Tun,
    decode,
    encode,
)
from flannelette.control.handover.fdstore import FdStore
from flannelette.control.handover.memory import Memory
from flannelette.control.handover.takeover import Predecessor
from flannelette.control.systemd.notify import Notifier
from flannelette.dataplane.forwarder import Endpoint, Forwarder
from flannelette.dataplane.path import load

log = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds from writing the routes down to the next time."""


class Handover:
    """What was left for us, and what we leave."""

    def __init__(
        self,
        notifier: Notifier,
        found: list[tuple[str, int]] | None = None,
        predecessor: Predecessor | None = None,
    ) -> None:
        """`found`: what the service manager gave us, by name; ours from here on.
        `predecessor`: who still forwards, and has left us that instead."""
        self._enabled = notifier.enabled
        self.predecessor = predecessor
        if predecessor is not None:
            for _, fd in found or []:
                os.close(fd)
            found = predecessor.left
        self._found = found or []
        # A predecessor may have had no service manager, or another one.
        names = [name for name, _ in self._found]
        self._store = FdStore(notifier, names, certain=predecessor is None)
        self._memory: Memory | None = None
        self.adopted: Adopted | None = None
        """What forwards with what was left, or will."""
        self._taken = False
        self._alone = predecessor is None
        """Nobody else forwards with what was left."""
        self._kept: tuple[Forwarder, Opened, Endpoint] | None = None
        self._stale = False
        self._due: asyncio.TimerHandle | None = None

    # ---- what was left for us --------------------------------------------------------

    @property
    def forwards(self) -> bool:
        """Do we, already with what was left?"""
        return self.adopted is not None and self._alone

    def adopt(self, config: Config) -> None:
        """Forward with what was left, if it can be used; on the event loop. If somebody
        forwards with it still, only get ready to. Raises HostError if it cannot be used
        then."""
        if not self._found:
            return
        found, self._found = self._found, []
        try:
            self._adopt(config, found)
        except (HandoverError, OSError) as error:
            for _, fd in found:
                with suppress(OSError):
                    os.close(fd)
            if self.predecessor is not None:
                raise HostError(f"nothing is taken over: {error}") from None
            self._start_over(error)
        else:
            if self.predecessor is None:
                self._say_it_goes_on()

    def _adopt(self, config: Config, found: list[tuple[str, int]]) -> None:
        """Raises HandoverError or OSError: then the descriptors are the caller's."""
        fds = dict(found)
        if len(fds) != len(found):
            raise HandoverError("two of its descriptors have one name")
        if DOCUMENT not in fds:
            raise HandoverError("it left no document")
        memory = Memory(fds.pop(DOCUMENT))
        document = decode(memory.read())
        opened = document.opened
        if (opened.queues, opened.offload) != (config.queues, wishes(config)):
            raise HandoverError("--queues or --offload are others than before")
        tun, underlay = rebuilt(document, fds)
        forwarder = open_forwarder(config, underlay)
        adopted = Adopted(forwarder, tun, document)
        try:
            forwarder.set_routes(document.routes)
            if self._alone:
                adopted.begin()
            else:
                load(config.datapath)  # while nobody waits for it
        except OSError:
            detach(underlay)
            raise
        self._memory, self.adopted = memory, adopted
        self._kept = forwarder, opened, document.endpoint

    async def succeed(self) -> bool:
        """Let whoever still forwards do so no more. False: it ends, or has, unasked,
        and then it is for go_on(). Raises HostError."""
        if not self._alone:
            assert self.predecessor is not None
            self._alone = await self.predecessor.go()
        return self._alone

    def go_on(self) -> None:
        """Nobody else forwards any more: forward with what was left, if there is any
        and we do not yet."""
        self._alone = True
        if self.adopted is None or self.adopted.begun:
            return
        self._catch_up(self.adopted)
        try:
            self.adopted.begin()
        except OSError as error:
            self._let_go(error)
            return
        self._say_it_goes_on()
        if self._kept is not None:
            self.keep(*self._kept)  # our service manager may not have it

    def _catch_up(self, adopted: Adopted) -> None:
        """With the routes that there were in the end: we may have waited for long."""
        assert self._memory is not None
        with suppress(HandoverError, OSError):  # those that we know will do
            adopted.replace_routes(decode(self._memory.read()).routes)

    def take(self, opened: Opened) -> Adopted | None:
        """What forwards from now on, if not before, for a carrier that would open the
        same; None, and nothing forwards, if there is none that fits. After succeed()
        or go_on()."""
        if self.adopted is not None and self.adopted.opened == opened:
            self.go_on()
        else:
            self.refuse("the underlay is another than before")
        self._taken = self.adopted is not None
        return self.adopted

    def refuse(self, why: str) -> None:
        """Let go of what was left, unless it was taken; when this returns, its port and
        its device are free."""
        if not self._taken:
            self._let_go(HandoverError(why))

    def _let_go(self, error: Exception) -> None:
        if self.adopted is not None:
            self.adopted.close()
            self.adopted = None
            self._start_over(error)

    def _say_it_goes_on(self) -> None:
        assert self.adopted is not None
        log.info("forwarding goes on: device=%s", self.adopted.device)

    def _start_over(self, error: Exception) -> None:
        log.warning("what the daemon before has left is of no use: reason=%s", error)
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()
        self._kept = None
        self._store.remove()

    # ---- what we leave ---------------------------------------------------------------

    def keep(self, forwarder: Forwarder, opened: Opened, endpoint: Endpoint) -> None:
        """It forwards, with these descriptors from now on."""
        self._kept = forwarder, opened, endpoint
        if not self._enabled or forwarder.tun is None:
            return
        fds = named(forwarder.tun, forwarder.underlay)
        try:
            if self._memory is None:
                self._memory = Memory.new()
            fds[DOCUMENT] = self._memory.fd
            self._write(self._memory)
        except OSError as error:
            log.warning("nothing is left for the next daemon: error=%s", error)
            return
        self._store.put(fds)

    def lost(self) -> None:
        """The TUN is of no use any more."""
        self._store.remove(TUN)

    def changed(self) -> None:
        """Routes are others than before."""
        self._stale = True
        if self._due is None and self._memory is not None:
            self._write_down(self._memory)

    def _write_down(self, memory: Memory) -> None:
        """At once, but not again for a while."""
        self._stale = False
        self._due = asyncio.get_running_loop().call_later(PAUSE, self._pause_ends)
        try:
            self._write(memory)
        except OSError as error:
            log.warning("routes are not told to the next daemon: error=%s", error)

    def _pause_ends(self) -> None:
        self._due = None
        if self._stale and self._memory is not None:
            self._write_down(self._memory)

    def _write(self, memory: Memory) -> None:
        """Raises OSError."""
        document = self.document()
        if document is not None:
            memory.write(encode(document))

    def offer(self) -> dict[str, int]:
        """What to hand over, borrowed, by name. Raises HostError when there is nothing,
        OSError."""
        if self._kept is None or (tun := self._kept[0].tun) is None:
            raise HostError("it does not carry packets itself")
        if self._memory is None:
            self._memory = Memory.new()
        self._write(self._memory)
        return named(tun, self._kept[0].underlay) | {DOCUMENT: self._memory.fd}

    def document(self) -> Document | None:
        """What the next daemon must know; None while there is no TUN."""
        if self._kept is None:
            return None
        forwarder, opened, endpoint = self._kept
        tun = forwarder.tun
        if tun is None:
            return None
        unsteered = tun.unsteered.errno if tun.unsteered is not None else 0
        state = Tun(tun.name, tun.vnet, tun.tso, tun.uso, unsteered or 0)
        return Document(opened, state, endpoint, forwarder.routes)

    def leave(self) -> None:
        """The forwarder ends next."""
        if self._due is not None:
            self._due.cancel()
        memory, self._memory = self._memory, None
        if memory is None:
            return
        with suppress(OSError):  # the successor will start from scratch
            self._write(memory)
        memory.close()

    def close(self) -> None:
        """We end, and perhaps what forwards was never taken. May be called again."""
        self.leave()
        if self.adopted is not None and not self._taken:
            self.adopted.close()
            self.adopted = None
        predecessor, self.predecessor = self.predecessor, None
        if predecessor is not None:
            predecessor.close()
