"""What a TUN lost because we did not read it fast enough."""

from __future__ import annotations

from pathlib import Path

_DEVICES = Path("/proc/thread-self/net/dev")
"""Of this thread's network namespace; sysfs shows the one that it was mounted in."""
_TX_DROPPED = 11
"""Among a device's numbers: eight of what it received, then bytes, packets, errors and
drops of what was sent by it."""


def unread_drops(device: str) -> int | None:
    """Frames that the kernel dropped because a queue of the TUN was full; a superpacket
    is one. None: there is no such device.

    How full the queues are no one can tell: what waits there is in no counter, nor in
    the backlog of the device's qdisc. Raises OSError."""
    for line in _DEVICES.read_text().splitlines():
        name, _, numbers = line.strip().partition(":")
        if name == device:
            return int(numbers.split()[_TX_DROPPED])
    return None
