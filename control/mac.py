"""MAC addresses: as text, as numbers of 48 bits, and our own, kept in a file.

flannel-behaviour.md L6, V7, H6.
"""

from __future__ import annotations

import logging
import re
import secrets
from contextlib import suppress
from pathlib import Path

from flannelette.control import atomicfile

log = logging.getLogger(__name__)

_FORMS = re.compile(
    r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}"
    r"|[0-9a-f]{2}(?:-[0-9a-f]{2}){5}"
    r"|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}",
    re.ASCII | re.IGNORECASE,
)
"""Of 6 bytes, as Go's net.ParseMAC takes them (L6)."""
_GROUP = 1 << 40
_LOCAL = 1 << 41
_SIZE_MAX = 64


def parse(text: str) -> int:
    """Raises ValueError."""
    if _FORMS.fullmatch(text) is None:
        raise ValueError(f"not a MAC address: {text!r:.60}")
    return int(re.sub("[:.-]", "", text), 16)


def show(mac: int) -> str:
    """In lower case, with colons (L6)."""
    return mac.to_bytes(6, "big").hex(":")


def is_unicast(mac: int) -> bool:
    """Can it be one device's? Zero is nobody's; broadcast and multicast have many."""
    return mac != 0 and not mac & _GROUP


def fresh() -> int:
    """Unicast, locally administered, and else at random."""
    return secrets.randbits(48) & ~_GROUP | _LOCAL


def keep(path: Path) -> int:
    """The MAC that the file remembers; a fresh one, which it remembers from now on,
    if there is no file, or it is damaged.

    Raises OSError when the file cannot be read or written."""
    try:
        if (mac := _remembered(path)) is None:
            mac = fresh()
            atomicfile.write(path, f"{show(mac)}\n")
    except OSError as error:
        error.add_note(f"the MAC file {path} cannot be read, or not written")
        raise
    return mac


def _remembered(path: Path) -> int | None:
    """Raises OSError."""
    try:
        with open(path, "rb") as file:
            text = file.read(_SIZE_MAX).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    with suppress(ValueError):
        if is_unicast(mac := parse(text)):
            return mac
    log.warning("the MAC file is damaged, a new MAC replaces it: path=%s", path)
    return None
