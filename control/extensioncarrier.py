"""Commands carry the packets: the extension backend's (7.5).

One runs at a time, in an order that follows from what is told and what should be: what
SubnetAddCommand was told is taken back by SubnetRemoveCommand in the same words, also
when a peer comes to say something else. (flanneld adds the new without removing the
old, and repeats every addition when a lease is renewed.) A failure is logged and not
tried again, as with flanneld: a command is not known to bear being repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

from flannelette.control import commands
from flannelette.control.backends.backend import Routes, Subnet
from flannelette.control.backends.extension import (
    ExtensionBackend,
    ExtensionRoute,
    Told,
    backend_data,
    startup_variables,
    words,
)
from flannelette.control.errors import HostError, one_line
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.plan import Plan
from flannelette.control.processes import environment
from flannelette.dataplane.forwarder import Route

log = logging.getLogger(__name__)


class ExtensionCarrier:
    """A Carrier (carrier.py). What commands have done stays when we end (C8)."""

    forwarder: ClassVar[None] = None
    device: ClassVar[None] = None
    direct: ClassVar[tuple[()]] = ()

    def __init__(self, plan: Plan, backend: ExtensionBackend) -> None:
        self.due = asyncio.Event()
        self._network = plan.network
        self._backend = backend
        self._add = "SubnetAddCommand", backend.subnet_add
        self._remove = "SubnetRemoveCommand", backend.subnet_remove
        self._wanted: dict[Subnet, Told] = {}
        self._told: dict[Subnet, Told] = {}
        """What SubnetAddCommand was run for."""
        self._changed: dict[Subnet, None] = {}
        """For which one or the other may have to be run; in order."""

    @property
    def routes(self) -> list[Route]:
        told = self._wanted.values()
        routes = (Route.to(one.subnet, one.public_ip) for one in told)
        return sorted(routes, key=lambda it: (it.prefix, it.length))

    async def prepare(self, attrs: LeaseAttrs) -> LeaseAttrs:
        """With what PreStartupCommand says. Raises HostError, OSError."""
        command = self._backend.pre_startup
        if not command.split():
            return attrs
        text = await _run("PreStartupCommand", command, {})
        if len(text.encode()) >= commands.OUTPUT_MOST:
            raise HostError("PreStartupCommand says more than a lease can hold")
        return replace(attrs, backend_data=backend_data(text.strip()))

    async def start(self, lease: Lease) -> None:
        variables = startup_variables(self._network, lease)
        await _run("PostStartupCommand", self._backend.post_startup, variables)

    def apply(self, removed: Iterable[Subnet], added: Routes) -> None:
        for subnet in removed:
            self._wanted.pop(subnet, None)
            self._changed[subnet] = None
        for subnet, route in added.items():
            assert isinstance(route, ExtensionRoute)
            self._wanted[subnet] = route.told
            self._changed[subnet] = None
        self.due.set()

    async def reconcile(self) -> list[str]:
        """Nothing is repaired: what commands have done is not known."""
        while self._changed:  # and it may go on to change meanwhile
            changed, self._changed = self._changed, {}
            for subnet in changed:
                told = self._told.get(subnet)
                if told is not None and self._wanted.get(subnet) != told:
                    del self._told[subnet]
                    await self._tell(*self._remove, told)
            for subnet in changed:
                wanted = self._wanted.get(subnet)
                if wanted is not None and subnet not in self._told:
                    self._told[subnet] = wanted
                    await self._tell(*self._add, wanted)
        return []

    async def _tell(self, name: str, command: str, told: Told) -> None:
        try:
            await _run(name, command, told.variables, told.data)
        except (HostError, OSError) as error:
            why = one_line(error)
            log.error("a command failed: subnet=%s error=%s", told.subnet, why)

    def close(self) -> None:
        """Everything stays (C8)."""


async def _run(
    name: str, command: str, variables: Mapping[str, str], text: str = ""
) -> str:
    """What it says; nothing if there is no such command. Raises HostError, OSError."""
    environ = {**environment(), **variables}
    argv = words(command, environ)
    if not argv:
        return ""
    try:
        said = await commands.run(argv, environ, f"{text}\n")
    except HostError as error:
        raise HostError(f"{name}: {error}") from None
    except OSError as error:
        error.add_note(f"while starting {name}")
        raise
    log.debug("ran a command: name=%s", name)
    return said
