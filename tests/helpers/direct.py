"""Waiting for routes past the overlay (DirectRouting)."""

from __future__ import annotations

from functools import partial

from tests.helpers.lab import Lab
from tests.helpers.ns import until


def until_direct(it: Lab, *numbers: int) -> None:
    """Until those hosts' kernels reach all peers by the wire. Their daemons tell of it
    when they have found out that it can be so, which is before the kernel knows."""
    for number in numbers:
        until(partial(_is_direct, it, number))


def _is_direct(it: Lab, number: int) -> bool:
    host = it.rig.host(number)
    for route in it.status(number)["routes"]:
        version = 6 if ":" in route["subnet"] else 4
        command = ["ip", f"-{version}", "route", "show", route["subnet"]]
        shown = it.rig.run(host, command).stdout
        if not route["direct"] or " dev eth0 " not in shown:
            return False
    return True
